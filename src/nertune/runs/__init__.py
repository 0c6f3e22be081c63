"""Runs: the stages called in order, their record, and their comparison."""
