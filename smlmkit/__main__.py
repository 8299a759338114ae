"""``python -m smlmkit``: the command line."""

from smlmkit.cli import main

if __name__ == "__main__":
    main()
