"""What staff see of the attribution: the report."""

from . import report

__all__ = ["report"]
