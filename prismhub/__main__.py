"""`python -m prismhub` is the command `prismhub`."""

from prismhub.cli import main

if __name__ == "__main__":
    main()
