"""Encoders and BiLSTMs (tokens to logits), heads (logits to entities), and what is trained."""
