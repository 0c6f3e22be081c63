"""How good a tagger is, and whether it is better than another one."""
