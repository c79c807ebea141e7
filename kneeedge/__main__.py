"""`python -m kneeedge`."""

from kneeedge.cli.app import main

main()
