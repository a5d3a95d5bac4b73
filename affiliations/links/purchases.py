"""Pay a purchase out, once, and take it back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, models, router
from django.utils import timezone

from .. import outbox
from ..exceptions import InvalidMoney
from ..models import Callback, Conversion, Partner, Visitor
from ..money import Money, number
from ..querysets import LEASE
from ..savepoints import retried
from ..services import credit_visitor, reverse_conversion
from . import relay
from .conf import service_fee, settings
from .exceptions import (
    AlreadyFulfilled,
    AmountNotPositive,
    BelowFloorPrice,
    BelowServiceFee,
    CurrencyMismatch,
    IdempotencyConflict,
    InvalidAmount,
    InvalidPurchase,
    NoOpenTransaction,
    NothingToRefund,
)
from .models import Link, Transaction, unfit, unprintable
from .models.transactions import MAX_GIVEN, MAX_ORDER
from .querysets import TransactionQuerySet
from .relay import GIVEN, TRIGGER
from .signals import transaction_completed, transaction_refunded

__all__ = ["complete", "refund", "refund_transaction"]

State = Transaction.State
WHY = "The purchase was refunded."


def complete(
    *,
    item_id: str,
    user: Any,
    amount: Decimal | int | str,
    currency: str = "",
    order_id: str = "",
    request_key: str = "",
    given: Mapping[str, str] | None = None,
    partner: Partner | int | None = None,
) -> Transaction:
    """Pay a purchase out, once: record it, and tell the network whose click led to it.

    Of the user's open transactions for the item the latest is completed, and the others are
    fulfilled without a payout. `amount` is in major units of `currency`, or else of the link's.
    `order_id` names the purchase, and `request_key` the call that reports it; either again, or the
    same call again without them, returns the same transaction. `given` are values for the network,
    by the names of `relay.GIVEN`. With `partner`, only transactions of their links count.

    Everything is written in one transaction, the caller's if there is one. Raises one of the errors
    under NotCompleted; then nothing has changed.
    """
    using = router.db_for_write(Transaction)
    purchase = _Purchase(
        str(item_id).strip(), user, amount, currency, order_id, request_key, partner, using
    )
    purchase.given = _fit(given or {})

    def once() -> Transaction:
        return purchase.repeated() or _complete(purchase) or purchase.not_completed()

    try:
        return retried(once, using)
    except IntegrityError:
        # Another server was faster with the same order, or the same key.
        if repeated := purchase.repeated():
            return repeated
        raise


def _fit(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the values for the network, as text; raises InvalidPurchase."""
    fit = {name: str(value) for name, value in given.items() if name in GIVEN}
    for name, text in fit.items():
        if len(text) > MAX_GIVEN or unprintable(text):
            raise InvalidPurchase(
                f"{name}: must be at most {MAX_GIVEN} characters, none of them a control one"
            )
    return fit


class _Purchase:
    """What somebody reports as bought."""

    def __init__(
        self,
        item_id: str,
        user: Any,
        amount: Decimal | int | str,
        currency: str,
        order_id: str,
        request_key: str,
        partner: Any,
        using: str,
    ) -> None:
        self.item_id = item_id
        self.user = user
        self.amount = amount
        self.currency = currency.upper()
        self.order_id = str(order_id).strip()
        self.partner = partner
        self.using = using
        self.given: dict[str, str] = {}
        self.order_key = _digest("order", item_id, self.order_id) if self.order_id else None
        self.request_key = _digest("request", request_key) if request_key else None
        if problem := unfit(item_id):
            raise InvalidPurchase(f"item_id: {problem}")
        if len(self.order_id) > MAX_ORDER or unprintable(self.order_id):
            raise InvalidPurchase(
                f"order_id: must be at most {MAX_ORDER} characters, none of them a control one"
            )
        try:
            if self.currency:
                Money.of(0, self.currency)
            positive = number(amount) > 0
        except InvalidMoney as error:
            raise InvalidAmount(str(error)) from error
        if not positive:
            raise AmountNotPositive("amount: must be above zero")

    @property
    def rows(self) -> TransactionQuerySet:
        """All transactions."""
        return Transaction.objects.using(self.using)

    def repeated(self) -> Transaction | None:
        """Return what the same purchase was completed by before, if it was.

        Raises IdempotencyConflict where it was another one by the same name.
        """
        for name in ("request_key", "order_key"):
            key = getattr(self, name)
            found = self.rows.filter(**{name: key}).first() if key else None
            if found is not None:
                if not self.is_own(found):
                    # Nobody learns from an order's name what became of another partner's click.
                    return self.done_or_not()
                if not self.is_same(found):
                    what = "Idempotency-Key" if name == "request_key" else "order_id"
                    raise IdempotencyConflict(f"{what}: was completed with something else in it")
                return found
        return None

    def is_same(self, found: Transaction) -> bool:
        if (found.item_id, found.user_id) != (self.item_id, getattr(self.user, "pk", None)):
            return False
        if self.order_id and found.order_id and self.order_id != found.order_id:
            return False
        return self.paid_in(found.currency) == found.money

    def is_own(self, found: Transaction) -> bool:
        """Tell whether a transaction is the caller's to know of."""
        if self.partner is None:
            return True
        return self.rows.for_partner(self.partner).filter(pk=found.pk).exists()

    def paid_in(self, currency: str) -> Money | None:
        """Return what was paid, in the given currency unless the caller has named one."""
        try:
            return Money.of(self.amount, self.currency or currency)
        except InvalidMoney:
            return None

    def not_completed(self) -> Transaction:
        """Return the completion that this purchase repeats; raises why there is none.

        Asked when nothing was found open, which others may have completed while it was waited for.
        """
        return self.repeated() or self.done_or_not()

    def done_or_not(self) -> Transaction:
        """Return the completion that this one, nameless, repeats; raises why it repeats none."""
        own = self.rows.for_partner(self.partner).of(self.user, self.item_id)
        latest = own.order_by("-clicked_on", "-pk").first()
        if latest is None:
            raise NoOpenTransaction("item_id: this user came to it through no link")
        done = own.exclude(completed_on=None).order_by("-completed_on", "-pk").first()
        # The same again, from somebody who names neither the order nor the call.
        unnamed = self.order_key is None and self.request_key is None
        if done is not None and unnamed and self.is_same(done):
            return done
        raise AlreadyFulfilled("item_id: what led this user to it was fulfilled before")


def _complete(purchase: _Purchase) -> Transaction | None:
    rows = purchase.rows
    mine = rows.of(purchase.user, purchase.item_id)
    found = _locked(mine)
    if not found:
        return None
    # Of all partners' clicks: there is one payout, and it is the latest one's.
    chosen = max(found, key=lambda each: (each.clicked_on, each.pk))
    if not purchase.is_own(chosen):
        raise NoOpenTransaction("item_id: this user came to it through no link")
    # Not as attributes that are fetched when first used: that might be from a copy that lags.
    link = Link.objects.using(purchase.using).select_related("partner").get(pk=chosen.link_id)
    chosen.link = link
    money = _payable(purchase, link)
    now = timezone.now()
    changes = {
        "state": State.COMPLETED,
        "open_key": None,
        "fulfilled_on": now,
        "completed_on": now,
        "amount_minor": money.minor,
        "currency": money.currency,
        "order_id": purchase.order_id,
        "given": purchase.given,
        "order_key": purchase.order_key,
        "request_key": purchase.request_key,
        # As it is now: what is taken back later has to reach whoever was told.
        "callback_url": link.callback_url,
    }
    if not rows.filter(pk=chosen.pk).open().update(**changes):
        # Without locks: somebody was faster since it was looked for.
        return None
    for name, value in changes.items():
        setattr(chosen, name, value)
    mine.fulfill(now)
    _credit(chosen, purchase.user)
    transaction_completed.announce(Transaction, using=purchase.using, transaction=chosen)
    return chosen


def _locked(rows: TransactionQuerySet) -> list[Transaction]:
    """Return those that are open, locked: whoever completes the same waits here for its turn.

    Looked for twice. Where a login was waited for, which has closed one and given the user
    another, the first look knew only of the one.
    """
    for _ in range(2):
        if found := list(rows.open().select_for_update().order_by("pk")):
            return found
    return []


def _payable(purchase: _Purchase, link: Link) -> Money:
    """Return what was paid; raises what keeps it from being paid out."""
    if purchase.currency and purchase.currency != link.currency and link.floor_minor:
        raise CurrencyMismatch(
            f"currency: the link's floor price is in {link.currency}, not {purchase.currency}"
        )
    try:
        money = Money.of(purchase.amount, purchase.currency or link.currency)
    except InvalidMoney as error:
        raise InvalidAmount(str(error)) from error
    if link.floor_minor and money <= link.floor:
        raise BelowFloorPrice(f"amount: must exceed the link's floor price, {link.floor}")
    fee = service_fee(money.currency)
    if money.amount <= fee:
        raise BelowServiceFee(
            f"amount: must exceed the minimum service fee, {fee} {money.currency}"
        )
    return money


def _credit(done: Transaction, user: Any) -> None:
    """Record the conversion and the relay of a completed transaction."""
    link = done.link
    if link.partner is not None and not link.partner.active:
        return  # the deal is over
    using = done._state.db or router.db_for_write(Transaction)
    visitor: Visitor | None = _row(Visitor, done.visitor_id, using)
    done.visitor = visitor
    if visitor is not None:
        # The number tells items of one order apart.
        reference = f"{done.order_id} #{done.pk}".strip()
        done.conversion = credit_visitor(
            visitor,
            trigger=TRIGGER,
            reference=reference,
            policy="transaction",
            user=user,
            money=done.money,
        )
    if link.callback_url:
        url = relay.template(done.callback_url, done.query)
        done.relay = _call(done, url, relay.APPROVED)
    done.save(update_fields=["conversion", "relay"])


def _call(done: Transaction, url: str, status: str, due: datetime | None = None) -> Callback:
    """Write a call to the network into the outbox."""
    link, now = done.link, timezone.now()
    callback = Callback(
        partner=link.partner,
        conversion_id=done.conversion_id,
        expects=done.relay.expects if done.relay else link.expects,
        due=due or now,
    )
    of_click = {name: _text(done.query.get(name)) for name in relay.OF_CLICK}
    values = {
        **of_click,
        "transaction_id": done.network_id,
        "visitor_id": str(done.visitor_id or ""),
        "partner_uid": link.partner.uid if link.partner else "",
        "trigger": TRIGGER,
        "reference": done.order_id,
        "amount": str(done.money.amount) if done.money else "",
        "currency": done.currency,
        "timestamp": str(int((done.completed_on or now).timestamp())),
        "click_id": done.visitor.click_id if done.visitor else done.network_id,
        **(done.visitor.sub_ids if done.visitor else {}),
        "adv_sub": done.order_id or str(done.pk),
        **done.given,
        "item_id": done.item_id,
        "user_id": str(done.user_id or ""),
        "order_id": done.order_id,
        # Ours, so that a repeated call is no second conversion there.
        "conversion_unique_id": f"{done.path}-{done.pk}",
        "status": status,
    }
    outbox.address(callback, url, values, placeholders=relay.PLACEHOLDERS)
    outbox.enqueue([callback])
    return callback


def refund(
    *,
    item_id: str,
    user: Any,
    order_id: str = "",
    partner: Partner | int | None = None,
) -> Transaction:
    """Hold the payout of a purchase back: the user was given the money back.

    What the network was to be told is canceled where it has not left yet; else the network is told
    that it does not count. The conversion is reversed, and AFFILIATE_REFUND_ALERTS are mailed. With
    `order_id` the purchase of that order, else the latest of the user's that was completed. Once
    more returns the same. Raises NothingToRefund.
    """
    using = router.db_for_write(Transaction)
    return retried(lambda: _refund(str(item_id).strip(), user, order_id, partner, using), using)


def _refund(item_id: str, user: Any, order_id: str, partner: Any, using: str) -> Transaction:
    rows = Transaction.objects.using(using)
    sold = rows.for_partner(partner).of(user, item_id)
    if order_id:
        sold = sold.filter(order_key=_digest("order", item_id, order_id))
    paid = sold.filter(state=State.COMPLETED).select_for_update()
    found = paid.order_by("-completed_on", "-pk").first()
    if found is None:
        again = sold.filter(state=State.REFUNDED).order_by("-refunded_on", "-pk").first()
        if again is None:
            raise NothingToRefund("item_id: no purchase of this user's was completed")
        return again
    return refund_transaction(found, using) or found


def refund_transaction(sold: Transaction, using: str = "") -> Transaction | None:
    """Refund one completed transaction; None where it is not completed, or not any more."""
    using = using or router.db_for_write(Transaction)

    def once() -> Transaction | None:
        now = timezone.now()
        rows = Transaction.objects.using(using).filter(pk=sold.pk, state=State.COMPLETED)
        changes = {
            "state": State.REFUNDED,
            "refunded_on": now,
            "alert_due": bool(settings.REFUND_ALERTS),
        }
        if not rows.update(**changes):
            return None
        # Anew, now that nobody else can change it: its user may have been erased since it was read.
        sold.refresh_from_db(using=using)
        sold.adjustment = _take_back(sold, now, using)
        sold.save(using=using, update_fields=["adjustment"])
        if (conversion := _row(Conversion, sold.conversion_id, using)) is not None:
            reverse_conversion(conversion)
        transaction_refunded.announce(Transaction, using=using, transaction=sold)
        return sold

    return retried(once, using)


def _take_back(sold: Transaction, now: datetime, using: str) -> Callback | None:
    """Withdraw the relay; return the call that takes it back where it may have been heard."""
    rows = Callback.objects.using(using)
    about = models.Q(pk=sold.relay_id or 0)
    if sold.conversion_id is not None:
        # And whatever else somebody was to be told of the conversion.
        about |= models.Q(conversion=sold.conversion_id)
    # Nobody has claimed these, nor ever did.
    outbox.withdraw(rows.filter(about, attempts=0, token=None), reason=WHY)
    relayed: Callback | None = _row(Callback, sold.relay_id, using)
    sold.relay = relayed
    if relayed is None:
        return None
    unheard = relayed.attempts == 0 or relayed.state == Callback.State.REFUSED
    # It may be under way at this moment: whoever makes the call gives up when the lease is over.
    under_way = relayed.token is not None and relayed.due is not None and relayed.due > now
    outbox.withdraw(rows.filter(pk=relayed.pk), reason=WHY)
    relayed.refresh_from_db(using=using)
    # Once it is erased, nothing is left of by which click the network would know it.
    if unheard or not relayed.url:
        return None
    sold.link = Link.objects.using(using).select_related("partner").get(pk=sold.link_id)
    sold.visitor = _row(Visitor, sold.visitor_id, using)
    url = relay.with_status(relay.template(sold.callback_url, sold.query))
    return _call(sold, url, relay.REJECTED, now + LEASE if under_way else None)


def _row(model: Any, pk: int | None, using: str) -> Any:
    """Return a row as it is, and not as a copy that lags behind has it; None where it is gone."""
    return None if pk is None else model._default_manager.using(using).filter(pk=pk).first()


def _text(value: object) -> str:
    """Return a stored parameter as text; of several by one name the first."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) else ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()
