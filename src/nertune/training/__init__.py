"""The loop, its optimizer and its checkpoints."""
