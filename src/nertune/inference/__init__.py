"""From text to entities with a trained tagger."""
