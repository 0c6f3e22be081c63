"""What training keeps on the disk: soft targets, and what frozen layers give."""
