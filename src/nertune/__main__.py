"""`python -m nertune`."""

from nertune.cli.commands import main

main()
