"""Decide in this process, and write down at once what is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from django.db import Error, router
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from ... import middleware
from ...context import current_request
from ...savepoints import is_lost, lazy
from ...tracking import hits, properties
from ...tracking.properties import Known
from .. import bucketing, collect, deciding, exposures, segments, wire
from ..deciding import Visitor, names_of
from ..exposures import Seen
from ..models import Assignment
from .config import Config
from .decisions import Failed, Flag, Found, Who, without_reserved

__all__ = ["Here", "is_refused"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: What is answered where it has worked: as a server would, there is nothing to say.
DONE = ""


class Here:
    """An environment that is a property of this database."""

    def __init__(self, config: Config) -> None:
        self._env_id, self._api_key = config.env_id, config.api_key

    def decide(self, who: Who, context: Mapping[str, Any], cached: Sequence[str]) -> Found:
        """Decide, and write down what is known of the visitor."""
        wanted = {bucketing.variation_of(each) for each in cached}
        known = wire.known_of(without_reserved(context))
        prop = self._asked(self._property)
        visitor = _visitor(who, has_consent=not is_refused())
        found = self._asked(lambda: deciding.decide(prop, visitor, known=known, cached=wanted))
        if found.panic:
            return Found({}, panic=True)
        if visitor.has_consent:
            self._tell_context(prop, visitor, known)
        flags = {}
        for each in found.choices:
            where = each.campaign_id, each.group_id, each.variation_id, each.is_reference
            for name, value in (each.value | dict.fromkeys(each.others)).items():
                flags[name] = Flag(*where, value, (each.keys, each.version))
        return Found(flags)

    def _tell_context(self, prop: Known, visitor: Visitor, known: Mapping[str, Any]) -> None:
        said = {name: value for name, value in known.items() if value != ""}

        def write() -> None:
            segments.tell(prop, visitor, said, timezone.now(), is_final=False)

        try:
            self._asked(write)
        except Failed as failure:
            # What was decided holds all the same.
            logger.warning("A context could not be written: %s", failure)

    def activate(self, who: Who, flag: Flag) -> str:
        """Write down that somebody has seen a flag's variation."""
        assert flag.seen is not None  # noqa: S101 # it was decided here
        seen = Seen(*flag.seen, timezone.now())

        def write() -> None:
            prop = self._written_to()
            visitor = _named(_visitor(who))
            exposures.record(prop, visitor, [seen], is_final=False)

        self._asked(write)
        return DONE

    def tell(self, who: Who, hit: Mapping[str, Any]) -> str:
        """Write down a hit."""

        def write() -> None:
            prop = self._written_to()
            _named(_visitor(who))
            told = {**hit, **who.as_told_with_hits()}
            try:
                found = collect.told_of(prop, told, timezone.now())
            except wire.Invalid as error:
                raise Failed(str(error)) from None
            if found is not None:
                hits.record(prop, found.names, found.hit, once=found.once)

        self._asked(write)
        return DONE

    def guarded(self) -> AbstractContextManager[None]:
        """Undo in the caller's transaction what fails, and no more."""
        return lazy(router.db_for_write(Assignment))

    def _asked(self, action: Callable[[], T]) -> T:
        """Ask the database; raises Failed where it fails, unless the caller has to know."""
        try:
            with self.guarded():
                return action()
        except Error as error:
            if is_lost(router.db_for_write(Assignment)):
                raise
            logger.exception("The database could not be asked")
            raise Failed(f"the database could not be asked: {type(error).__name__}") from error

    @sensitive_variables()
    def _property(self) -> Known:
        prop = properties.find(self._env_id)
        if prop is None:
            raise Failed(f"env_id: no property has the public key {str(self._env_id)[:100]!r}")
        if not prop.row.active:
            raise Failed("env_id: the property is disabled")
        if self._api_key is not None and not prop.row.is_secret(self._api_key):
            raise Failed("api_key: is not the property's secret")
        return prop

    def _written_to(self) -> Known:
        prop = self._property()
        if is_refused():
            raise Failed("nothing is recorded of this browser: it has not agreed, or asks for that")
        return prop


def is_refused() -> bool:
    """Tell whether the browser of the request in progress, if any, is not to be recorded."""
    request = current_request.get()
    return request is not None and (
        middleware.asks_not_to_be_tracked(request) or not middleware.has_consent(request)
    )


def _visitor(who: Who, *, has_consent: bool = True) -> Visitor:
    before = who.anonymous_id or ""
    names = names_of(who.visitor_id)
    return Visitor(who.visitor_id, names, before, names_of(before), has_consent)


def _named(visitor: Visitor) -> Visitor:
    """Return a visitor of whom something can be kept; raises Failed for another one."""
    if not (visitor.names or visitor.anonymous_names):
        raise Failed(f"visitor_id: nobody can be known by {visitor.visitor_id[:40]!r}")
    return visitor
