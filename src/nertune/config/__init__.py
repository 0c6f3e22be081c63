"""Settings: recipes, their names, and pre-training."""
