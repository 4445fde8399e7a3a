"""`python -m unetpp` is the command `unetpp`."""

from unetpp.cli import main

if __name__ == "__main__":
    main()
