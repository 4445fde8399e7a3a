"""The version of this package, for modules that must not import `unetpp`."""

__version__ = "0.1.0"
