"""`python -m sersearch` is the command line."""

from sersearch.cli import main

if __name__ == "__main__":
    main()
