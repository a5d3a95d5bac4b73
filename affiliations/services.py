"""Every change of the core that spans more than one table, as one function each.

The admin, commands, tasks, triggers and, later, APIs are thin callers of these. A service owns its
transaction, takes no request, and announces what it did by a signal inside the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError, models, router, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from . import decisions, outbox, savepoints
from .conf import settings
from .decisions import Candidate
from .exceptions import InvalidMoney, InvalidTransition
from .models import Callback, Conversion, Reversal, Share, Visitor
from .models.conversions import MAX_REFERENCE, conversion_key
from .models.visitors import MAX_URL
from .money import Money, apportion
from .privacy import export_user, forget_user
from .signals import (
    conversion_recorded,
    conversion_reversed,
    visitor_identified,
    visitor_registered,
)

__all__ = [
    "credit_visitor",
    "explain",
    "export_user",
    "forget_user",
    "guarded",
    "identify",
    "record_conversion",
    "register_visitor",
    "reverse_conversion",
]

#: Visits that a decision looks at; more of one person's than this is a robot's.
MAX_CANDIDATES = 50


def guarded(action: Callable[[], Any], complaint: str) -> Any:
    """Do something that must not harm the site's own request, in a savepoint; log a failure.

    Returns what `action` returned, or None. Raises only where the database has ended the whole
    transaction, so that what the site wrote in it is undone as well.
    """
    return savepoints.guarded(action, complaint, router.db_for_write(Visitor))


def register_visitor(
    *,
    partner_id: int,
    entry_point: str = "",
    user: Any = None,
    ident: str = "",
    click_id: str = "",
    sub_ids: Mapping[str, str] | None = None,
    referrer_host: str = "",
) -> Visitor:
    """Record that somebody arrived through a partner; `entry_point` is cut to 2,000 characters."""
    visitor = Visitor(
        partner_id=partner_id,
        user=user,
        ident=ident,
        entry_point=entry_point[:MAX_URL],
        click_id=click_id,
        sub_ids=dict(sub_ids or {}),
        referrer_host=referrer_host,
    )
    if not visitor_registered.has_listeners(Visitor):
        # Nothing else is written: a transaction around the one INSERT would only cost time.
        visitor.save(force_insert=True)
        return visitor
    using = router.db_for_write(Visitor)
    with transaction.atomic(using=using):
        visitor.save(force_insert=True, using=using)
        visitor_registered.announce(Visitor, using=using, visitor=visitor)
    return visitor


def identify(*, user: Any, visitor_ids: Iterable[int] = (), ident: str = "") -> None:
    """Give a browser's visitors their user; what belongs to another user stays theirs.

    Sends `visitor_identified`.
    """
    known = models.Q(pk__in=list(visitor_ids))
    if ident:
        known |= models.Q(ident=ident)
    using = router.db_for_write(Visitor)
    nameless = Visitor.objects.using(using).creditable().filter(known, user=None)
    if not visitor_identified.has_listeners(Visitor):
        nameless.update(user=user)
        return
    with transaction.atomic(using=using):
        nameless.update(user=user)
        visitor_identified.announce(Visitor, using=using, ident=ident, user=user)


def record_conversion(
    *,
    trigger: str,
    reference: str = "",
    identifies: bool = True,
    repeat: bool = True,
    user: Any = None,
    money: Money | None = None,
    known: Mapping[int, str] | None = None,
    ident: str = "",
) -> Conversion | None:
    """Credit whoever sent a person for what they did, and write the callbacks that say so.

    `known` names visitors of the person's browser, each with where it is known from; `ident` is
    its cookie's; with `user` their other visits come into question too. Returns None where nobody
    is to be credited, or was already: a reference converts once for a trigger, or, without
    `repeat`, the trigger converts once. `identifies` tells that the reference names one thing, so
    that it converts once among all of the person's visits, not once for each of them.

    Everything is written in the caller's transaction. Raises InvalidShares where the site's own
    attribution policy gives an answer that cannot be credited.
    """
    key = conversion_key(trigger, _shortened(reference) if repeat else "")
    using = router.db_for_write(Conversion)
    visitors: dict[int, Any] = {}
    try:
        # Also around the query: a failure in here must leave the caller's transaction usable.
        with transaction.atomic(using=using):
            visitors |= _candidates(trigger, key, user, dict(known or {}), ident)
            if (identifies or not repeat) and any(each.converted for each in visitors.values()):
                return None
            now = timezone.now()
            user_id = user.pk if user is not None else None
            candidates = [_candidate(each, known or {}, user_id, now) for each in visitors.values()]
            decision = decisions.decide(candidates, *_policy())
            if decision is None or visitors[decision.shares[0].visitor_id].converted:
                return None
            conversion = Conversion(
                visitor=visitors[decision.shares[0].visitor_id],
                trigger=trigger,
                reference=_shortened(reference),
                key=key,
                user=user,
                amount_minor=money.minor if money else None,
                currency=money.currency if money else "",
                created_on=now,
                decision=decision.record,
            )
            _write(conversion, decision.shares, visitors, using)
            return conversion
    except IntegrityError:
        # Somebody else was faster; any other broken constraint is a defect, and must be heard of.
        if Conversion.objects.using(using).filter(key=key, visitor__in=visitors).exists():
            return None
        raise


def credit_visitor(
    visitor: Visitor,
    *,
    trigger: str,
    reference: str,
    policy: str,
    user: Any = None,
    money: Money | None = None,
) -> Conversion | None:
    """Credit one visitor with a conversion that no attribution policy is asked for.

    For whoever knows whose click it was: `policy` says by what rule, for the record. None where
    there is no active deal with the visitor's partner, or the reference has converted for this
    visitor and trigger before. What the partner is subscribed to it is told, as of any conversion.
    Everything is written in the caller's transaction.
    """
    key = conversion_key(trigger, _shortened(reference))
    using = router.db_for_write(Conversion)
    try:
        with transaction.atomic(using=using):
            found = _candidates(trigger, key, None, {visitor.pk: "transaction"}, "")
            credited = found.get(visitor.pk)
            if credited is None or credited.converted or not credited.partner.active:
                return None
            candidate = Candidate(
                credited.pk, credited.partner.uid, credited.clicked_on, "transaction"
            )
            decision = decisions.decide([candidate], policy, decisions.last)
            if decision is None:
                return None
            conversion = Conversion(
                visitor=credited,
                trigger=trigger,
                reference=_shortened(reference),
                key=key,
                user=user,
                amount_minor=money.minor if money else None,
                currency=money.currency if money else "",
                decision=decision.record,
            )
            _write(conversion, decision.shares, {credited.pk: credited}, using)
            return conversion
    except IntegrityError:
        if Conversion.objects.using(using).filter(key=key, visitor=visitor).exists():
            return None
        raise


def _candidates(
    trigger: str, key: str, user: Any, known: dict[int, str], ident: str
) -> dict[int, Any]:
    belongs = models.Q(pk__in=list(known))
    if ident:
        # Of nobody else at the same browser, or there might be no room left for the person's own.
        belongs |= models.Q(ident=ident) & (models.Q(user=None) | models.Q(user=user))
    if user is not None:
        belongs |= models.Q(user=user)
    same = Conversion.objects.filter(key=key, visitor=models.OuterRef("pk"))
    visitors = (
        Visitor.objects.using(router.db_for_write(Conversion))
        .filter(belongs)
        .select_related("partner")
        .annotate(
            wish=models.FilteredRelation(
                "partner__subscriptions",
                condition=models.Q(partner__subscriptions__trigger=trigger),
            ),
            wish_id=models.F("wish__pk"),
            wish_trigger=models.F("wish__trigger"),
            callback_url=models.F("wish__callback_url"),
            callback_method=models.F("wish__method"),
            callback_expects=models.F("wish__expects"),
            converted=models.Exists(same),
        )
        .order_by("-clicked_on", "-pk")[:MAX_CANDIDATES]
    )
    return {visitor.pk: visitor for visitor in visitors}


def _candidate(visitor: Any, known: Mapping[int, str], user_id: Any, now: datetime) -> Candidate:
    its_users = visitor.user_id is not None and visitor.user_id == user_id
    known_from = known.get(visitor.pk, "user" if its_users else "cookie")
    dropped = ""
    if not visitor.partner.active:
        dropped = "inactive"
    elif visitor.wish_id is None:
        dropped = "not subscribed"
    elif reason := visitor.why_not(now):
        dropped = reason
    elif not visitor.counts_for(user_id, known_from=known_from):
        dropped = "another user"
    return Candidate(visitor.pk, visitor.partner.uid, visitor.clicked_on, known_from, dropped)


def _policy() -> tuple[str, decisions.Policy]:
    setting: Any = settings.ATTRIBUTION
    if callable(setting):
        return f"{setting.__module__}.{setting.__qualname__}", setting
    ours: dict[str, decisions.Policy] = {"last": decisions.last, "first": decisions.first}
    return setting, ours.get(setting) or import_string(setting)


def _shortened(reference: str) -> str:
    """Return a reference that fits its column, and differs where the whole one does."""
    reference = reference.replace("\0", "").encode(errors="replace").decode()
    if len(reference) <= MAX_REFERENCE:
        return reference
    digest = conversion_key("", reference)
    return f"{reference[: MAX_REFERENCE - len(digest) - 1]}~{digest}"


def _write(
    conversion: Conversion, shares: list[decisions.Share], visitors: dict[int, Any], using: str
) -> None:
    # First, and in the same order everywhere: where an INSERT locks the rows that it refers to, as
    # on MariaDB, two orders of one person at once would each wait for the other to let go.
    for visitor in sorted((visitors[share.visitor_id] for share in shares), key=lambda it: it.pk):
        if visitor.successful_on is None:
            visitor.succeed(conversion.user)
    conversion.save(force_insert=True, using=using)
    written = Share.objects.using(using).bulk_create(
        Share(conversion=conversion, visitor=visitors[visitor_id], weight=weight)
        for visitor_id, weight in shares
    )
    minors: list[int | None] = [None] * len(shares)
    if conversion.amount_minor is not None:
        minors = [*apportion(conversion.amount_minor, [share.weight for share in shares])]
    callbacks = []
    for share, minor in zip(shares, minors, strict=True):
        visitor = visitors[share.visitor_id]
        if visitor.callback_url:
            callbacks.append(_callback(conversion, visitor, minor))
    outbox.enqueue(callbacks)
    conversion_recorded.announce(Conversion, using=using, conversion=conversion, shares=written)


def _callback(conversion: Conversion, visitor: Any, minor: int | None) -> Callback:
    callback = Callback(
        partner=visitor.partner,
        subscription_id=visitor.wish_id,
        conversion=conversion,
        method=visitor.callback_method,
        expects=visitor.callback_expects,
    )
    values = {
        "visitor_id": str(visitor.pk),
        "partner_uid": visitor.partner.uid,
        "trigger": conversion.trigger,
        "reference": conversion.reference,
        "amount": "" if minor is None else str(Money(minor, conversion.currency).amount),
        "currency": conversion.currency,
        "timestamp": str(int(conversion.created_on.timestamp())),
        "click_id": visitor.click_id,
        **visitor.sub_ids,
    }
    outbox.address(callback, visitor.callback_url, values)
    return callback


def reverse_conversion(
    conversion: Conversion, money: Money | None = None, *, reference: str = ""
) -> bool:
    """Take a conversion back, or `money` of it: a refund, a mistake. Tell whether this call did.

    Without `money`, all of it that still counts; False where nothing does. `reference` names what
    it was taken back for, as a refund's number: the same one again takes nothing back, and returns
    False. The row stays, and stays the only one of its reference. Sends `conversion_reversed`.

    Raises InvalidMoney where `money` is not above zero, of another currency than the conversion, or
    more than is left of it, and InvalidTransition where the reference took another amount back.
    Then nothing has changed.
    """
    using = router.db_for_write(Conversion)
    return savepoints.retried(lambda: _reverse(conversion, money, reference, using), using)


def _reverse(conversion: Conversion, money: Money | None, reference: str, using: str) -> bool:
    # Locked: each of several at once has to see how much the others have left of it.
    stored = Conversion.objects.using(using).select_for_update().get(pk=conversion.pk)
    reference = _shortened(reference)
    # What has no name is told from others by how much was taken back before it.
    key = conversion_key("", f"={reference}" if reference else str(stored.reversed_minor))
    done = stored.reversals.filter(key=key).first() if reference else None
    if done is not None:
        if money is not None and money != done.money:
            raise InvalidTransition(f"reference: {reference!r:.80} took {done.money} back before")
        return False
    left = stored.standing
    if money is None:
        if stored.reversed_on is not None:
            return False
    elif left is None or left.currency != money.currency:
        raise InvalidMoney(f"money: the conversion has {(left and left.currency) or 'no amount'}")
    elif not 0 < money.minor <= left.minor:
        raise InvalidMoney(f"money: must be above zero, and at most {left}, which is left of it")
    part = left if money is None else money
    now = timezone.now()
    changes: dict[str, Any] = {}
    if part is not None:
        changes["reversed_minor"] = stored.reversed_minor + part.minor
    if part == left:
        changes["reversed_on"] = now
    Conversion.objects.using(using).filter(pk=stored.pk).update(**changes)
    for name, value in changes.items():
        setattr(conversion, name, value)
    reversal = Reversal(
        conversion=conversion,
        reference=reference,
        key=key,
        amount_minor=part.minor if part else None,
        created_on=now,
    )
    reversal.save(force_insert=True, using=using)
    conversion_reversed.announce(Conversion, using=using, conversion=conversion, reversal=reversal)
    return True


def explain(conversion: Conversion) -> str:
    """Say in words who was credited for a conversion and why, a line for each visit considered."""
    return decisions.explain(conversion.decision)
