"""`python -m nertune`."""

from nertune.cli import main

main()
