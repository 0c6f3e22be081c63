"""Searches for settings: sweep and advise."""
