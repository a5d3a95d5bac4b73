"""Declare what the tracking announces, inside the transaction that does it."""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["identities_exported", "identities_forgotten"]

#: identities (their primary keys), shown (to add to, under a key of the app's own), using (the
#: database): what is held on a person of a property is being collected.
identities_exported = Signal()

#: identities (their primary keys), counts (to add to), using (the database): names are about to be
#: erased, and no cascade will be: what else hangs on them is the receiver's to delete. A failing
#: receiver undoes the erasure.
identities_forgotten = Signal()
