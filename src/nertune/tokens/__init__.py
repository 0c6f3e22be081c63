"""Text to tokens, tokens to windows, windows to batches."""
