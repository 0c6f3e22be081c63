"""Entities to tags and back, and the one place where entities meet tokens."""
