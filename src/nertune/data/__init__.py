"""Files to documents and back, and what a corpus holds."""
