"""What may be allowed through the API."""

from __future__ import annotations

from ..access import Right

__all__ = ["DELETE", "GENERATE", "READ", "TRANSACT"]

READ = Right("links:read", "affiliations_links.view_link")
GENERATE = Right("links:write", "affiliations_links.add_link")
DELETE = Right("links:write", "affiliations_links.delete_link")
TRANSACT = Right("links:transact", "affiliations_links.change_transaction")
