"""Write down what is known of somebody, as a hit, when it changes.

    tell(prop, Visitor("visitor-1", names_of("visitor-1")), {"plan": "gold"}, timezone.now())

What this process has written is known for an hour.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any

from django.db import router, transaction

from ..tracking import hits
from ..tracking.exceptions import InvalidHit
from ..tracking.identities import Name
from ..tracking.models import Hit
from ..tracking.properties import Known
from . import collect
from .deciding import Visitor
from .recently import Recently

__all__ = ["forget", "tell"]

logger = logging.getLogger(__name__)

#: Whose context is known to have been written, for an hour, and of how many.
_written = Recently(3600, 50_000)


def tell(
    prop: Known,
    visitor: Visitor,
    context: Mapping[str, Any],
    now: datetime,
    *,
    is_final: bool = True,
) -> None:
    """Write what is known of somebody, unless it was the same when it was written last.

    Nobody is written of who has no name. No query where this process has written it within an hour.
    Without `is_final` it is known for written only once a transaction of the caller's is committed.
    """
    names = [*visitor.names, *visitor.anonymous_names]
    if not names:
        return
    text = json.dumps(context, sort_keys=True)
    key = prop.id, names[0], sha256(text.encode()).digest()
    fields = collect.segment(context)
    if not fields["meta"] or key in _written:
        return
    if not is_final:
        _write(prop, names, fields, now)
        transaction.on_commit(partial(_written.add, key), router.db_for_write(Hit))
    # Before it is written, as another thread may be told the same meanwhile.
    elif _written.add(key):
        try:
            _write(prop, names, fields, now)
        except Exception:
            _written.discard(key)
            raise


def _write(prop: Known, names: Sequence[Name], fields: Mapping[str, Any], now: datetime) -> None:
    try:
        hits.record(prop, names, hits.new_hit(prop, happened_on=now, **fields))
    except InvalidHit as error:
        logger.info("A context could not be written: %s", error)


def forget() -> None:
    """Write everything anew; for tests."""
    _written.clear()
