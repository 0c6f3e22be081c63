"""Distillation: a student learns from the probabilities of one teacher or several."""
