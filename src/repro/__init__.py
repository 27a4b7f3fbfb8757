"""Published claims about batch size, run again."""

__version__ = "0.1.0"
