"""Text to pieces, pieces to windows, windows to batches."""
