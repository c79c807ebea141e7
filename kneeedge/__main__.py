"""`python -m kneeedge`."""

from kneeedge.cli import main

main()
