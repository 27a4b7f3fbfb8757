"""What batch size to use: a measured noise scale and measured step times, put into words. Knows `measure` alone."""

from repro.advice.adviser import Advice, advise

__all__ = ["Advice", "advise"]
