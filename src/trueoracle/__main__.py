"""`python -m trueoracle` is the command `trueoracle`."""

from trueoracle.cli.app import main

main()
