"""Every change of links and transactions, as one function each.

The router, the API, the admin and commands are thin callers of these. A service owns its
transaction, takes no request, and announces what it did by a signal inside the transaction.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, router, transaction
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.module_loading import import_string

from .. import savepoints
from ..exceptions import InvalidMoney
from ..models import Partner
from ..money import Money
from ..savepoints import retried
from . import deeplinks, landing
from .conf import may_lead_to, settings
from .exceptions import InvalidLink, UnknownLink
from .models import PATH, LandingPage, Link, Transaction
from .purchases import complete, refund, refund_transaction
from .relay import TRIGGER

__all__ = [
    "TRIGGER",
    "acquire",
    "complete",
    "delete_link",
    "described",
    "draft_link",
    "find_link",
    "fulfill",
    "generate_link",
    "has_open",
    "purchased_url",
    "refund",
    "refund_transaction",
    "taken_paths",
]

logger = logging.getLogger(__name__)

State = Transaction.State
PATH_TAKEN = "There is, or was, a link with this path."
#: Paths that one query looks for: each goes through all links.
ASKED_AT_ONCE = 5_000
#: Of a user's primary key in a transaction's own; beyond it stands a digest.
MAX_KEY = 90


def generate_link(
    *,
    path: str = "",
    pages: Sequence[tuple[str, int]] = (),
    deep_path: str = "",
    anywhere: bool = True,
    **fields: Any,
) -> Link:
    """Make a link of what `draft_link` takes.

    `pages` are other landing pages with their weights. `deep_path` is to be led to as well, see
    deeplinks.py. Unless it may lead `anywhere`, all its landing pages have to be on
    AFFILIATE_LINKS_LANDING_HOSTS or the site's own hosts, also where that setting is empty. Raises
    InvalidLink, which has the problems by field, those of a link that is there already under this
    path among them.
    """
    link, problems = draft_link(path=path, **fields)
    others = [LandingPage(link=link, url=url, weight=weight) for url, weight in pages]
    for number, other in enumerate(others):
        try:
            other.full_clean(exclude=["link"])
        except ValidationError as error:
            for name, said in error.message_dict.items():
                problems[f"landing_pages.{number}.{name}"] = said
    if "landing_page" not in problems:
        problems |= _astray(link, others, deep_path, anywhere)
    if "path" not in problems and path and taken_paths([path]):
        problems["path"] = [PATH_TAKEN]
    if problems:
        raise InvalidLink(problems)
    try:
        with transaction.atomic(using=router.db_for_write(Link)):
            link.save(force_insert=True)
            for other in others:
                other.save()
    except IntegrityError:
        if not Link.objects.filter(path=link.path).exists():
            raise
        raise InvalidLink({"path": [PATH_TAKEN]}) from None
    return link


def draft_link(
    *,
    item_id: str,
    landing_page: str,
    callback_url: str = "",
    floor: Decimal | int | str | None = None,
    currency: str = "",
    partner: Partner | None = None,
    path: str = "",
    **options: Any,
) -> tuple[Link, dict[str, list[str]]]:
    """Return a link that is not saved yet, and what keeps it from being so, by field.

    `floor` is in major units, and `options` are further fields of `Link`. Whether its path is taken
    is not looked up, see `taken_paths`.
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
    problems: dict[str, list[str]] = {}
    try:
        link.floor_minor = Money.of(0 if floor is None else floor, currency).minor
    except InvalidMoney as error:
        field, _, text = str(error).partition(": ")
        problems["currency" if field == "currency" else "floor_price"] = [text]
    try:
        # The partner is a row that was read just now.
        link.full_clean(exclude=["partner"], validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        # Of each the first: what is missing is also not what it should be.
        problems |= {_PUBLIC.get(name, name): said[:1] for name, said in error.message_dict.items()}
    return link, problems


def taken_paths(paths: Iterable[str]) -> set[str]:
    """Return those, in lower case, that a link has or had, whatever the case.

    Two paths that only a keen eye tells apart are of no use to anybody.
    """
    wanted = sorted({path.lower() for path in paths if PATH.fullmatch(path)})
    taken: set[str] = set()
    for start in range(0, len(wanted), ASKED_AT_ONCE):
        rows = Link.objects.annotate(lower=Lower("path"))
        rows = rows.filter(lower__in=wanted[start : start + ASKED_AT_ONCE])
        taken.update(rows.values_list("lower", flat=True))
    return taken


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
        # A query of the site's that fails in there must not undo what is done around it.
        with savepoints.lazy(router.db_for_write(Transaction)):
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
    if not ident or getattr(user, "pk", None) is None:
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
    bought: list[str] = []
    if settings.LINKS_PURCHASED is not None:
        # Asked before anything is locked: nobody knows how long the site takes.
        items = sorted(set(nameless.values_list("item_id", flat=True)))
        bought = [item_id for item_id in items if purchased_url(user, item_id)]
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
    fulfilled = sum(rows.for_partner(partner).of(user, item_id).fulfill(now) for item_id in bought)
    return len(found), fulfilled


def open_key(link_id: int, *, user: Any = None, ident: str = "") -> str:
    """Return what there is only one open transaction of: a link, and a user or a browser."""
    if user is None:
        return f"{link_id}:{ident}"
    key = f"u{user.pk}"
    return f"{link_id}:{key if len(key) <= MAX_KEY else hashlib.sha256(key.encode()).hexdigest()}"


def fulfill(*, item_id: str, user: Any, partner: Partner | int | None = None) -> int:
    """End what the user has open for an item without a payout; return how many there were."""
    using = router.db_for_write(Transaction)
    rows = Transaction.objects.using(using).for_partner(partner).of(user, str(item_id).strip())
    return retried(rows.fulfill, using)
