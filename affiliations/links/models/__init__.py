"""The tables of the links."""

from .links import PATH, LandingPage, Link, default_currency, new_path, unfit, unprintable
from .transactions import Transaction

__all__ = [
    "PATH",
    "LandingPage",
    "Link",
    "Transaction",
    "default_currency",
    "new_path",
    "unfit",
    "unprintable",
]
