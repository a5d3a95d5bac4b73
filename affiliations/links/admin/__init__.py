"""What staff see of links: to generate and to look after, and what came of them."""

from . import links, transactions

__all__ = ["links", "transactions"]
