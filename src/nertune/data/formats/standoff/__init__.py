"""Texts with their entities apart: brat, PubTator."""
