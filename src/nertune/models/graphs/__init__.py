"""Taggers as graphs that are computed without PyTorch."""
