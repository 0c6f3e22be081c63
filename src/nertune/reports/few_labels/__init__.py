"""What commands that learn from few labels found."""
