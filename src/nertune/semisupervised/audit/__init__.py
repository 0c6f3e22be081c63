"""Label errors in a corpus, found by models that were trained on the rest of it."""
