"""One module a format, reading and writing; `corpus.py` chooses between them."""
