"""What an audit found: for a terminal and as a page."""
