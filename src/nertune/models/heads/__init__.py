"""Heads: logits to entities, and their losses."""
