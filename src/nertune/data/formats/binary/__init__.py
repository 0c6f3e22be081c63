"""Formats of binary files."""
