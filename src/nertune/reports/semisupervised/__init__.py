"""Results of learning from few and bad labels, on a terminal and as pages."""
