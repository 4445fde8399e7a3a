"""The version of this package, for those who may not import its door."""

__version__ = "0.1.0"
