"""`python -m onward`: the command."""

from onward.cli.app import main

main()
