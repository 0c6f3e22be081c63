"""Pre-training runs, and what tags words for them."""
