"""A trained tagger on disk and on the hub."""
