"""Tables with a row a sentence: its tokens, and their tags or spans."""
