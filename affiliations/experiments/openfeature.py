"""Evaluate flags by OpenFeature's API, in this process.

    from openfeature import api

    api.set_provider_and_wait(ExperimentsProvider())
    client = api.get_client()
    client.get_string_value("button-color", "red", EvaluationContext("visitor-1", {"plan": "gold"}))

The targeting key is the visitor's id, and the attributes are what is known of them. Whoever a flag
is evaluated for has seen the variation that it comes from. Needs the extra `openfeature`.

Source: OpenFeature's specification, sections 1 and 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import Error, connections, router
from django.utils import timezone
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import (
    FlagNotFoundError,
    GeneralError,
    ProviderNotReadyError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata
from openfeature.track import TrackingEventDetails

from .. import savepoints
from ..exceptions import InvalidMoney
from ..money import Money
from ..tracking import hits, properties
from ..tracking.exceptions import InvalidHit
from ..tracking.models import Hit
from ..tracking.properties import Known
from . import deciding, exposures, live, wire
from .deciding import Visitor, names_of
from .exposures import Seen
from .models import Assignment, Campaign
from .rules import Choice, Group

__all__ = ["ExperimentsProvider"]

T = TypeVar("T")


class ExperimentsProvider(AbstractProvider):
    """Gives OpenFeature's clients the flags of this site's campaigns.

    `env_id` is the public key of a property, by default that of AFFILIATE_TRACKING_PROPERTY.
    Without `exposes` an evaluation is not what somebody has seen.

    The variant is the variation's name. The reason is STATIC where everybody sees the same, SPLIT
    where they are shared out, TARGETING_MATCH where the audience has conditions, DEFAULT where
    those before it did not hold or no variation sets the flag, and DISABLED for a flag of paused
    campaigns: the value is the caller's default then, as it is where there is panic.
    """

    def __init__(self, env_id: str = "", *, exposes: bool = True) -> None:
        super().__init__()
        self._env_id, self._exposes = env_id, exposes

    def get_metadata(self) -> Metadata:
        """Return what the provider is called."""
        return Metadata(name="affiliations")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Look whether there is the property; raises ProviderNotReadyError."""
        connection = connections[router.db_for_read(Campaign)]
        was_open = connection.connection is not None
        try:
            self._asked(self._property)
        finally:
            if not was_open:
                # It may be a thread that is made for this, and closes nothing.
                connection.close()

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: Any = None
    ) -> FlagResolutionDetails[bool]:
        """Return a flag that is true or false."""
        return self._resolved(flag_key, default_value, evaluation_context, _bool)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: Any = None
    ) -> FlagResolutionDetails[str]:
        """Return a flag that is a text."""
        return self._resolved(flag_key, default_value, evaluation_context, _text)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: Any = None
    ) -> FlagResolutionDetails[int]:
        """Return a flag that is a whole number, of whatever kind."""
        return self._resolved(flag_key, default_value, evaluation_context, _whole)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: Any = None
    ) -> FlagResolutionDetails[float]:
        """Return a flag that is a number."""
        return self._resolved(flag_key, default_value, evaluation_context, _number)

    def resolve_object_details(
        self, flag_key: str, default_value: Any, evaluation_context: Any = None
    ) -> FlagResolutionDetails[Any]:
        """Return a flag that is an object or a list."""
        return self._resolved(flag_key, default_value, evaluation_context, _structure)

    async def resolve_boolean_details_async(self, *args: Any, **named: Any) -> Any:
        """Return what the function without `_async` does."""
        return await sync_to_async(self.resolve_boolean_details)(*args, **named)

    async def resolve_string_details_async(self, *args: Any, **named: Any) -> Any:
        """Return what the function without `_async` does."""
        return await sync_to_async(self.resolve_string_details)(*args, **named)

    async def resolve_integer_details_async(self, *args: Any, **named: Any) -> Any:
        """Return what the function without `_async` does."""
        return await sync_to_async(self.resolve_integer_details)(*args, **named)

    async def resolve_float_details_async(self, *args: Any, **named: Any) -> Any:
        """Return what the function without `_async` does."""
        return await sync_to_async(self.resolve_float_details)(*args, **named)

    async def resolve_object_details_async(self, *args: Any, **named: Any) -> Any:
        """Return what the function without `_async` does."""
        return await sync_to_async(self.resolve_object_details)(*args, **named)

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Write down an event, as a hit of whoever the targeting key names.

        Its value is an amount where the attribute `currency` names one. Nothing is written of
        nobody, nor what cannot be a hit: an application must go on.
        """
        visitor = _visitor(evaluation_context)
        if not visitor.names:
            return
        details = tracking_event_details or TrackingEventDetails()

        def write() -> None:
            prop = self._property()
            hits.record(prop, visitor.names, _hit(prop, tracking_event_name, details))

        savepoints.guarded(write, "What was tracked could not be written", router.db_for_write(Hit))

    def _property(self) -> Known:
        prop = properties.find(self._env_id) if self._env_id else properties.own()
        if prop is None or not prop.row.active:
            raise ProviderNotReadyError("there is no such property, or it is disabled")
        return prop

    def _asked(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except Error as error:
            raise GeneralError(f"the database: {type(error).__name__}") from error

    def _resolved(
        self,
        flag: str,
        default: T,
        context: EvaluationContext | None,
        read: Callable[[Any], T | None],
    ) -> FlagResolutionDetails[T]:
        return self._asked(lambda: self._resolve(flag, default, context, read))

    def _resolve(
        self,
        flag: str,
        default: T,
        context: EvaluationContext | None,
        read: Callable[[Any], T | None],
    ) -> FlagResolutionDetails[T]:
        prop, visitor = self._property(), _visitor(context)
        known = wire.known_of(context.attributes if context is not None else {})
        found = deciding.decide(prop, visitor, known=known)
        choice = next((each for each in reversed(found.choices) if flag in each.value), None)
        if choice is None or choice.value[flag] is None:
            reason = Reason.DISABLED if found.panic else _without(prop, flag)
            return FlagResolutionDetails(default, reason=reason)
        value = read(choice.value[flag])
        if value is None:
            raise TypeMismatchError(f"{flag} is {json.dumps(choice.value[flag])[:100]}")
        self._see(prop, visitor, choice)
        return FlagResolutionDetails(
            value,
            reason=_reason(prop, choice),
            variant=choice.variation_name,
            flag_metadata={
                "campaignId": choice.campaign_id,
                "variationGroupId": choice.group_id,
                "variationId": choice.variation_id,
                "isReference": choice.is_reference,
            },
        )

    def _see(self, prop: Known, visitor: Visitor, choice: Choice) -> None:
        if not self._exposes or exposures.is_known(prop, visitor, choice.keys):
            return
        seen = Seen(choice.keys, choice.version, timezone.now())
        savepoints.guarded(
            lambda: exposures.record(prop, visitor, [seen], is_final=False),
            "What somebody has seen could not be written down",
            router.db_for_write(Assignment),
        )


def _visitor(context: EvaluationContext | None) -> Visitor:
    visitor_id = (context.targeting_key if context is not None else None) or ""
    return Visitor(visitor_id, names_of(visitor_id))


def _hit(prop: Known, event: str, details: TrackingEventDetails) -> hits.NewHit:
    meta: dict[str, Any] = dict(details.attributes)
    value = None
    if details.value is not None:
        currency = meta.get("currency")
        try:
            value = Money.of(Decimal(repr(details.value)), currency) if currency else None
        except InvalidMoney as error:
            raise InvalidHit(f"value: {error}") from None
        if value is None:
            meta["value"] = details.value
    kind = prop.own_event_types.get(event)
    return hits.new_hit(prop, type="event", event_type_id=kind, title=event, value=value, meta=meta)


def _reason(prop: Known, choice: Choice) -> Reason:
    group, is_first = _group(prop, choice)
    if group is None:
        return Reason.UNKNOWN
    if group.test is not None:
        return Reason.TARGETING_MATCH
    if not is_first:
        return Reason.DEFAULT
    return Reason.STATIC if all(each is choice for each in group.owners) else Reason.SPLIT


def _group(prop: Known, choice: Choice) -> tuple[Group | None, bool]:
    """Return the group that a choice is of, and whether it is its campaign's first."""
    for campaign in live.of_property(prop.id).now().campaigns:
        if campaign.id == choice.campaign_id:
            for position, group in enumerate(campaign.groups):
                if group.id == choice.group_id:
                    return group, position == 0
    return None, False


def _without(prop: Known, flag: str) -> Reason:
    """Return why nobody gives a flag a value; raises FlagNotFoundError where there is none."""
    every = live.of_property(prop.id).now().choices.values()
    if any(flag in each.value for each in every):
        return Reason.DEFAULT
    rows = Campaign.objects.filter(property=prop.id, state=Campaign.State.PAUSED)
    for text in rows.values_list("current__rules", flat=True):
        groups = json.loads(text)["groups"] if text else []
        if any(flag in each["value"] for group in groups for each in group["variations"]):
            return Reason.DISABLED
    raise FlagNotFoundError(f"no campaign sets {flag[:100]!r}")


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    if isinstance(value, float):
        # Of 10.0 nothing is lost by it.
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        # A whole number that no float can hold.
        return None


def _structure(value: Any) -> Mapping[str, Any] | Sequence[Any] | None:
    return value if isinstance(value, dict | list) else None
