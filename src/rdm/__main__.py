"""`python -m rdm`: the command line."""

from rdm.cli import main

main()
