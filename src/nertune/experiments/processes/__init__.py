"""Runs in processes of their own, here or on a node of Ray."""
