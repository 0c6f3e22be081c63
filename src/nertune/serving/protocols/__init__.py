"""Protocols of annotation tools, answered by the same service."""
