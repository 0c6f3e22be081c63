"""Emitters (pieces to emissions), decoders (emissions to tags), and what is trained of them."""
