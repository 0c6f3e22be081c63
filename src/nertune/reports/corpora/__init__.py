"""Reports about corpora: what is in them, and what an edit or a conversion did."""
