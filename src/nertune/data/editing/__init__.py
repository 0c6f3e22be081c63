"""Changes to a corpus: split, merge, rename labels, drop duplicates."""
