"""What staff do about the tracking: name the sites, and look at who did what."""

from . import customers, hits, properties

__all__ = ["customers", "hits", "properties"]
