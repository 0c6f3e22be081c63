"""Formats that are JSON: objects a line, or one array of them."""
