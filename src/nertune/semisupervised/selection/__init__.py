"""Which texts to label next: strategies, a pool of texts, a budget in units."""
