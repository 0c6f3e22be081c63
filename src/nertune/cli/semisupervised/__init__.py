"""Commands that learn from few and bad labels."""
