"""Results as terminal tables, figures, Markdown and HTML."""
