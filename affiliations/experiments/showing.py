"""Show the visitors of this site their variations: `request.experiments`.

    color = request.experiments.value("button-color", default="red")

Nothing is looked up before the first question; whoever is asked of a flag has seen its variation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, router
from django.utils import timezone
from django.utils.module_loading import import_string

from .. import bots, ident, middleware, savepoints
from ..tracking import properties, users
from ..tracking.identities import Kind, name
from ..visits import user_of
from . import deciding, exposures, live, qa, testing
from .conf import settings
from .deciding import Visitor
from .exposures import Seen
from .models import Assignment
from .rules import Choice

if TYPE_CHECKING:
    from django.http import HttpRequest

    from ..tracking.properties import Known

__all__ = ["Experiments", "decided", "see", "visitor_of", "whom"]

logger = logging.getLogger(__name__)


class Experiments:
    """What whoever makes a request sees of this site's experiments; `request.experiments`."""

    __slots__ = ("_choices", "_context", "_request", "_who")

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._context: dict[str, Any] | None = None
        self._choices: list[Choice] | None = None
        self._who: tuple[Known, Visitor] | None = None

    def update(self, **context: Any) -> None:
        """Say more of whoever makes the request, for conditions to ask for; text, numbers, bools.

        What was asked before is decided anew.
        """
        self._context = {**(self._context or {}), **context}
        self._choices = None

    def value(self, flag: str, default: Any = None) -> Any:
        """Return a flag's value, or the default where nobody has given it one.

        The variation that it comes from has been seen then. One query at most the first time that
        a flag is asked for in a request, and those of writing down what was seen the first time
        that somebody sees it. Whatever goes wrong is logged, and the default returned.
        """
        return self._value(flag, default, seen=True)

    def peek(self, flag: str, default: Any = None) -> Any:
        """Return a flag's value as `value` does, of a variation that was not seen by this."""
        return self._value(flag, default, seen=False)

    def variation(self, campaign: str) -> str:
        """Return the name of the variation that is seen of a campaign, by its slug; "" for none."""
        for each in self._decided():
            if campaign in (each.slug, each.campaign_id):
                self._see(each)
                return each.variation_name
        return ""

    async def avalue(self, flag: str, default: Any = None) -> Any:
        """Return what `value` does, in asynchronous code."""
        return await sync_to_async(self.value)(flag, default)

    async def apeek(self, flag: str, default: Any = None) -> Any:
        """Return what `peek` does, in asynchronous code."""
        return await sync_to_async(self.peek)(flag, default)

    async def avariation(self, campaign: str) -> str:
        """Return what `variation` does, in asynchronous code."""
        return await sync_to_async(self.variation)(campaign)

    def _value(self, flag: str, default: Any, *, seen: bool) -> Any:
        overridden, value = testing.overridden(flag)
        if overridden:
            return value
        # The last campaign that sets a flag wins, as with Flagship's clients.
        for each in reversed(self._decided()):
            if flag in each.value:
                if seen:
                    self._see(each)
                value = each.value[flag]
                return default if value is None else value
        return default

    def _decided(self) -> list[Choice]:
        if self._choices is None:
            try:
                self._choices = self._decide()
            except DatabaseError:
                logger.exception("It could not be decided what somebody sees: nothing")
                self._choices = []
        return self._choices

    def _decide(self) -> list[Choice]:
        prop = properties.own()
        self._who = who = whom(self._request, prop)
        if prop is None or who is None:
            return []
        return decided(self._request, *who, known=self._known())

    def _known(self) -> dict[str, Any]:
        hook = settings.EXPERIMENTS_CONTEXT
        if isinstance(hook, str):
            hook = import_string(hook)
        context = dict(hook(self._request)) if hook is not None else {}
        return {**context, **(self._context or {})}

    def _see(self, choice: Choice) -> None:
        # Who sent them is looked up for what is new alone.
        if self._who is not None and not exposures.is_known(*self._who, choice.keys):
            sent_by = getattr(self._request, "affiliate_visitor", None)
            see(self._request, *self._who, choice, sent_by.partner_id if sent_by else None)


def see(
    request: HttpRequest, prop: Known, visitor: Visitor, choice: Choice, partner_id: int | None
) -> None:
    """Write down that whoever makes a request has seen a variation, if it may be, and is new.

    A failure is logged.
    """
    if not visitor.has_consent or _is_forced(request, choice):
        return
    if exposures.is_known(prop, visitor, choice.keys):
        return
    seen = Seen(choice.keys, choice.version, timezone.now())
    savepoints.guarded(
        # A page's transaction may be taken back, and then it was not written.
        lambda: exposures.record(prop, visitor, [seen], partner_id=partner_id, is_final=False),
        "What somebody has seen could not be written down",
        router.db_for_write(Assignment),
    )


def whom(request: HttpRequest, prop: Known | None) -> tuple[Known, Visitor] | None:
    """Return for whom to decide in a property, None where there is nothing to decide."""
    if prop is None or not prop.row.active:
        return None
    found = live.of_property(prop.id)
    if found.panic or not found.now().campaigns:
        return None
    visitor = visitor_of(request, prop)
    return None if visitor is None else (prop, visitor)


def decided(
    request: HttpRequest,
    prop: Known,
    visitor: Visitor,
    *,
    known: Mapping[str, Any],
    ours: Mapping[str, Any] | None = None,
) -> list[Choice]:
    """Return what whoever makes a request sees: what staff want to see, and what is decided."""
    found = deciding.decide(prop, visitor, known=known, ours=ours).choices
    if chosen := qa.chosen(request):
        every = live.of_property(prop.id).now().choices
        forced = [each for pair in chosen.items() if (each := every.get(pair)) is not None]
        campaigns = {each.campaign_id for each in forced}
        found = [each for each in found if each.campaign_id not in campaigns] + forced
    return found


def _is_forced(request: HttpRequest, choice: Choice) -> bool:
    return qa.chosen(request).get(choice.group_id) == choice.variation_id


def visitor_of(request: HttpRequest, prop: Known) -> Visitor | None:
    """Return who makes a request; None for whom nothing is decided.

    Robots, and browsers without a name that may not be given one: they see what everybody would
    without an experiment.
    """
    user = user_of(request)
    refused = middleware.is_refused(request)
    if bots.is_bot(request.META.get("HTTP_USER_AGENT", "")):
        return None
    may = not refused and middleware.has_consent(request)
    known = ident.read(request)
    if user is not None:
        names = users.names_of(user)
        client = next((value for kind, value in names if kind == Kind.CLIENT), str(user.pk))
        before = [name(Kind.COOKIE, known)] if known else []
        return Visitor(client, names, known, before, has_consent=may)
    if not known:
        if not may:
            return None
        known = ident.ensure(request, needed=True)
    return Visitor(known, [name(Kind.COOKIE, known)], has_consent=may)
