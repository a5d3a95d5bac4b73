"""What staff see: partners and keys to manage, and everything else to look at."""

from . import callbacks, conversions, keys, partners, subscriptions, visitors

__all__ = ["callbacks", "conversions", "keys", "partners", "subscriptions", "visitors"]
