"""`python -m snapmirror`."""

from .cli import main

main()
