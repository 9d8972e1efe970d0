"""`python -m scail2_farm` is the command line."""

from scail2_farm.cli import main

main()
