"""`python -m kneeedge`."""

from kneeedge.cli.start import main

if __name__ == "__main__":
    main()
