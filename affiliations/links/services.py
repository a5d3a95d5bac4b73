"""Every change of links and transactions, as one function each.

The router, the API, the admin and commands are thin callers of these. A service owns its
transaction, takes no request, and announces what it did by a signal inside the transaction.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, router, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from .. import outbox
from ..exceptions import InvalidMoney
from ..models import Callback, Partner
from ..money import Money
from ..querysets import LEASE
from ..savepoints import retried
from ..services import credit_visitor, reverse_conversion
from . import deeplinks, landing, relay
from .conf import may_lead_to, service_fee, settings
from .exceptions import (
    AlreadyFulfilled,
    AmountNotPositive,
    BelowFloorPrice,
    BelowServiceFee,
    CurrencyMismatch,
    IdempotencyConflict,
    InvalidLink,
    NoOpenTransaction,
    NothingToRefund,
    UnknownLink,
)
from .models import PATH, LandingPage, Link, Transaction
from .querysets import TransactionQuerySet
from .relay import GIVEN
from .signals import transaction_completed, transaction_refunded

__all__ = [
    "TRIGGER",
    "acquire",
    "complete",
    "delete_link",
    "described",
    "find_link",
    "fulfill",
    "generate_link",
    "has_open",
    "purchased_url",
    "refund",
]

logger = logging.getLogger(__name__)

#: What a completed purchase is called among conversions.
TRIGGER = "Link completed"
State = Transaction.State


def generate_link(
    *,
    item_id: str,
    landing_page: str,
    callback_url: str = "",
    floor: Decimal | int | str | None = None,
    currency: str = "",
    partner: Partner | None = None,
    path: str = "",
    pages: Sequence[tuple[str, int]] = (),
    deep_path: str = "",
    anywhere: bool = True,
    **options: Any,
) -> Link:
    """Make a link; `floor` is in major units, and `options` are further fields of `Link`.

    `pages` are other landing pages with their weights. `deep_path` is to be led to as well, see
    deeplinks.py. Unless it may lead `anywhere`, all its landing pages have to be on
    AFFILIATE_LINKS_LANDING_HOSTS or the site's own hosts, also where that setting is empty. Raises
    InvalidLink, which has the problems by field, those of a link that is there already under this
    path among them.
    """
    currency = (currency or settings.LINKS_CURRENCY).upper()
    link = Link(
        item_id=item_id,
        landing_page=landing_page,
        callback_url=callback_url,
        currency=currency,
        partner=partner,
        **({"path": path} if path else {}),
        **options,
    )
    errors: dict[str, list[str]] = {}
    try:
        link.floor_minor = Money.of(0 if floor is None else floor, currency).minor
    except InvalidMoney as error:
        field, _, text = str(error).partition(": ")
        errors["currency" if field == "currency" else "floor_price"] = [text]
    try:
        link.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        errors |= {_PUBLIC.get(name, name): said for name, said in error.message_dict.items()}
    others = [LandingPage(link=link, url=url, weight=weight) for url, weight in pages]
    for number, other in enumerate(others):
        try:
            other.full_clean(exclude=["link"])
        except ValidationError as error:
            for name, said in error.message_dict.items():
                errors[f"landing_pages.{number}.{name}"] = said
    if "landing_page" not in errors:
        errors |= _astray(link, others, deep_path, anywhere)
    if "path" not in errors and path and Link.objects.filter(path=path).exists():
        errors["path"] = ["There is, or was, a link with this path."]
    if errors:
        raise InvalidLink(errors)
    try:
        with transaction.atomic(using=router.db_for_write(Link)):
            link.save(force_insert=True)
            for other in others:
                other.save()
    except IntegrityError:
        if not Link.objects.filter(path=link.path).exists():
            raise
        raise InvalidLink({"path": ["There is, or was, a link with this path."]}) from None
    return link


def _astray(
    link: Link, others: Sequence[LandingPage], deep_path: str, anywhere: bool
) -> dict[str, list[str]]:
    """Return what is wrong with where a link leads, by field."""
    urls = {"landing_page": link.landing_page}
    urls |= {f"landing_pages.{number}.url": other.url for number, other in enumerate(others)}
    errors = {
        field: ["Must be on a host of this site, or one of AFFILIATE_LINKS_LANDING_HOSTS."]
        for field, url in urls.items()
        if not may_lead_to(landing.host(url), anywhere=anywhere)
    }
    if deep_path:
        try:
            landing.on_host(link.landing_page, deep_path)
        except ValueError as error:
            errors["deep_path"] = [str(error)]
        else:
            if len(deeplinks.token(link.path, deep_path)) > deeplinks.MAX_TOKEN:
                errors["deep_path"] = ["Is too long."]
    return errors


#: What a field is called where its name tells how it is stored.
_PUBLIC = {"floor_minor": "floor_price"}


def find_link(path: str, *, partner: Partner | int | None = None) -> Link:
    """Return a link that was not deleted, with `partner` only one of theirs; raises UnknownLink."""
    found = None
    if PATH.fullmatch(path):
        found = Link.objects.kept().for_partner(partner).filter(path=path).first()
    if found is None:
        raise UnknownLink("path: there is no such link")
    return found


def described(link: Link) -> dict[str, str]:
    """Return a link in the words of Affiliate Hopper: {"mlp", "item_id", "floor_price"}.

    The floor price is in major units, with all their decimal places, as text: exact everywhere.
    """
    return {
        "mlp": link.landing_page,
        "item_id": link.item_id,
        "floor_price": str(link.floor.amount),
    }


def delete_link(path: str, *, partner: Partner | int | None = None) -> Link:
    """Delete a link; its transactions stay, and its path is never given out again.

    With `partner`, one of theirs only. Raises UnknownLink.
    """
    link = find_link(path, partner=partner)
    link.deleted_on = timezone.now()
    # By save, so that this process forgets the link at once.
    link.save(update_fields=["deleted_on"])
    return link


def purchased_url(user: Any, item_id: str) -> str:
    """Return where the user finds an item that they have bought, as the site says; else ""."""
    hook = settings.LINKS_PURCHASED
    if hook is None:
        return ""
    try:
        found = (import_string(hook) if isinstance(hook, str) else hook)(user, item_id)
    except Exception:
        logger.exception("AFFILIATE_LINKS_PURCHASED failed for the item %s", item_id)
        return ""
    return str(found) if found else ""


def has_open(*, item_id: str, user: Any, partner: Partner | int | None = None) -> bool:
    """Tell whether the user came to the item through a link, and nothing came of it yet."""
    rows = Transaction.objects.for_partner(partner).of(user, str(item_id).strip())
    return rows.open().exists()


def acquire(*, ident: str, user: Any, partner: Partner | int | None = None) -> tuple[int, int]:
    """Give a browser's open transactions to the user that it turned out to be.

    What belongs to another user stays theirs. Of two through one link, the browser's and one that
    the user has already, the latest stays open. Those whose item the user has bought by now are
    fulfilled. Returns how many were acquired, and how many of these fulfilled.
    """
    if not ident:
        return 0, 0
    using = router.db_for_write(Transaction)
    try:
        return retried(lambda: _acquire(ident, user, partner, using), using)
    except IntegrityError:
        # The user has clicked on the same link at this moment: now that can be seen.
        return retried(lambda: _acquire(ident, user, partner, using), using)


def _acquire(ident: str, user: Any, partner: Any, using: str) -> tuple[int, int]:
    rows = Transaction.objects.using(using)
    nameless = rows.for_partner(partner).open().filter(ident=ident, user=None)
    found = list(nameless.select_for_update().order_by("pk"))
    if not found:
        return 0, 0
    now = timezone.now()
    keys = {open_key(each.link_id, user=user): each for each in found}
    for theirs in rows.select_for_update().filter(open_key__in=keys).order_by("pk"):
        browsers = keys[theirs.open_key or ""]
        older = theirs if theirs.clicked_on < browsers.clicked_on else browsers
        rows.filter(pk=older.pk).update(
            user=user, state=State.FULFILLED, open_key=None, fulfilled_on=now
        )
        if older is browsers:
            del keys[theirs.open_key or ""]
    for key, each in keys.items():
        rows.filter(pk=each.pk).update(user=user, open_key=key)
    fulfilled = 0
    for item_id in sorted({each.item_id for each in found}):
        if purchased_url(user, item_id):
            bought = [each.pk for each in found if each.item_id == item_id]
            fulfilled += _fulfill(rows.filter(pk__in=bought), now)
    return len(found), fulfilled


def open_key(link_id: int, *, user: Any = None, ident: str = "") -> str:
    """Return what there is only one open transaction of: a link, and a user or a browser."""
    return f"{link_id}:u{user.pk}" if user is not None else f"{link_id}:{ident}"


def fulfill(*, item_id: str, user: Any, partner: Partner | int | None = None) -> int:
    """End what the user has open for an item without a payout; return how many there were."""
    using = router.db_for_write(Transaction)
    rows = Transaction.objects.using(using).for_partner(partner).of(user, str(item_id).strip())
    return retried(lambda: _fulfill(rows, timezone.now()), using)


def _fulfill(rows: Any, now: datetime) -> int:
    number: int = rows.open().update(state=State.FULFILLED, open_key=None, fulfilled_on=now)
    return number


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

    Everything is written in one transaction, the caller's if there is one. Raises InvalidMoney, or
    one of the errors under NotCompleted; then nothing has changed.
    """
    using = router.db_for_write(Transaction)
    purchase = _Purchase(
        str(item_id).strip(), user, amount, currency, order_id, request_key, partner, using
    )
    purchase.given = {name: str(text) for name, text in (given or {}).items() if name in GIVEN}

    def once() -> Transaction:
        return purchase.repeated() or _complete(purchase) or purchase.not_completed()

    try:
        return retried(once, using)
    except IntegrityError:
        # Another server was faster with the same order, or the same key.
        if repeated := purchase.repeated():
            return repeated
        raise


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
        self.order_id = order_id
        self.partner = partner
        self.using = using
        self.given: dict[str, str] = {}
        self.order_key = _digest("order", item_id, order_id) if order_id else None
        self.request_key = _digest("request", request_key) if request_key else None
        if Money.of(amount, self.currency or "CLF").minor <= 0:
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
                    return self.not_completed()
                if not self.is_same(found):
                    what = "Idempotency-Key" if name == "request_key" else "order_id"
                    raise IdempotencyConflict(f"{what}: was completed with something else in it")
                return found
        return None

    def is_same(self, found: Transaction) -> bool:
        if (found.item_id, found.user_id) != (self.item_id, self.user.pk):
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
        if repeated := self.repeated():
            return repeated
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
    own = purchase.rows.for_partner(purchase.partner).of(purchase.user, purchase.item_id)
    while True:
        # One after the other: others who complete the same wait here, and then find none open.
        found = list(own.open().select_for_update().order_by("-clicked_on", "-pk")[:1])
        if not found:
            return None
        chosen = found[0]
        money = _payable(purchase, chosen.link)
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
        }
        if purchase.rows.filter(pk=chosen.pk).open().update(**changes):
            break
    for name, value in changes.items():
        setattr(chosen, name, value)
    # All of the user's for the item, whoever's: there is one payout for one purchase.
    _fulfill(purchase.rows.of(purchase.user, purchase.item_id), now)
    _credit(chosen, purchase.user)
    transaction_completed.announce(Transaction, using=purchase.using, transaction=chosen)
    return chosen


def _payable(purchase: _Purchase, link: Link) -> Money:
    """Return what was paid; raises what keeps it from being paid out."""
    if purchase.currency and purchase.currency != link.currency and link.floor_minor:
        raise CurrencyMismatch(
            f"currency: the link's floor price is in {link.currency}, not {purchase.currency}"
        )
    money = Money.of(purchase.amount, purchase.currency or link.currency)
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
    reference = f"{done.order_id} {done.item_id}" if done.order_id else f"transaction {done.pk}"
    if done.visitor is not None:
        done.conversion = credit_visitor(
            done.visitor,
            trigger=TRIGGER,
            reference=reference,
            policy="transaction",
            user=user,
            money=done.money,
        )
    if link.callback_url:
        url = relay.template(link.callback_url, done.query)
        done.relay = _call(done, url, relay.APPROVED)
    done.save(update_fields=["conversion", "relay"])


def _call(done: Transaction, url: str, status: str, due: datetime | None = None) -> Callback:
    """Write a call to the network into the outbox."""
    link, now = done.link, timezone.now()
    callback = Callback(
        partner=link.partner, conversion=done.conversion, expects=link.expects, due=due or now
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
        for name, value in changes.items():
            setattr(sold, name, value)
        sold.adjustment = _take_back(sold, now)
        sold.save(update_fields=["adjustment"])
        if sold.conversion is not None:
            reverse_conversion(sold.conversion)
        transaction_refunded.announce(Transaction, using=using, transaction=sold)
        return sold

    return retried(once, using)


def _take_back(sold: Transaction, now: datetime) -> Callback | None:
    """Cancel the relay where it has not left; return the call that takes it back where it has."""
    if sold.relay is None:
        return None
    reason = "The purchase was refunded."
    told = Callback.objects.filter(pk=sold.relay.pk)
    # Nobody has claimed it, nor ever did: one statement, or a worker may be faster.
    if outbox.cancel_all(told.waiting().filter(attempts=0, token=None), reason=reason):
        return None
    relayed = told.get()
    never_left = relayed.attempts == 0
    if never_left or relayed.state == Callback.State.REFUSED:
        return None
    # It may be under way at this moment: whoever makes the call gives up when the lease is over.
    under_way = relayed.token is not None and relayed.due is not None and relayed.due > now
    outbox.cancel_all(told.waiting(), reason=reason)
    url = relay.with_status(relay.template(sold.link.callback_url, sold.query))
    return _call(sold, url, relay.REJECTED, now + LEASE if under_way else None)


def _text(value: object) -> str:
    """Return a stored parameter as text; of several by one name the first."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) else ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()
