"""Hold what somebody should look at before it is paid out, and say why.

A flag of AFFILIATE_FLAGS is a function that takes a commission which was just posted, with its
conversion, partner and visitor at hand, and returns in words what is odd about it, or "". It never
takes anything away from anybody: staff decide, see reviews.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import router
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from .. import addresses, firing, savepoints
from ..context import current_request
from ..models import Share
from ..models.partners import site_keys
from .conf import settings
from .ledger import fitting
from .models import Commission, Entry, PartnerNetwork, Review
from .models.reviews import MAX_DETAIL, MAX_REASON

try:
    from disposable_email_domains import blocklist
except ImportError:  # the extra "disposable" is not installed
    blocklist = {
        "10minutemail.com",
        "dispostable.com",
        "fakeinbox.com",
        "getnada.com",
        "guerrillamail.com",
        "maildrop.cc",
        "mailinator.com",
        "mailnesia.com",
        "sharklasers.com",
        "temp-mail.org",
        "tempmail.com",
        "throwawaymail.com",
        "trashmail.com",
        "yopmail.com",
    }

__all__ = ["disposable_mail", "partner_network", "soon_after_click", "velocity"]

logger = logging.getLogger(__name__)

#: Why an entry is held, besides the names of flags.
APPROVAL, FAILED = "approval", "flag failed"
#: How long a partner's network is known after its people were last seen there.
MEMORY = timedelta(days=90)
#: What one connection has of the Internet, mostly.
PREFIXES = {4: 24, 6: 48}
SALT = "affiliations.rewards.network.v1"


def open_reviews(entries: Sequence[Entry], shares: Sequence[Share], using: str) -> list[Review]:
    """Hold entries that were just posted, each for as many reasons as there are.

    In the caller's transaction: one query writes all reviews, and none asks whether there are any,
    but for those that flags themselves make.
    """
    visitors = {share.visitor_id: share.visitor for share in shares}
    reviews = []
    for entry in entries:
        commission: Any = entry.commission
        commission.visitor = visitors[commission.visitor_id]
        reviews += [
            Review(entry=entry, reason=reason, detail=fitting("; ".join(details), MAX_DETAIL))
            for reason, details in _reasons(commission, using).items()
        ]
    return Review.objects.using(using).bulk_create(reviews)


def _reasons(commission: Commission, using: str) -> dict[str, list[str]]:
    # By reason: of two flags of one name, or two that have failed, there is one review.
    found: dict[str, list[str]] = {APPROVAL: []} if settings.APPROVAL else {}
    for flag in settings.FLAGS:
        reason = detail = name_of(flag)
        try:
            # Mostly there is no query, and so no savepoint.
            with savepoints.lazy(using):
                detail = str(firing.resolve(flag)(commission) or "")
        except Exception:
            if savepoints.is_lost(using):
                raise
            logger.exception("The flag %r failed; the commission is held", reason)
            # Not the exception's own words, which may tell whatever it was about.
            reason = FAILED
        if detail:
            found.setdefault(fitting(reason, MAX_REASON), []).append(detail)
    return found


def name_of(flag: Any) -> str:
    """Return what a flag is called: its path without the modules, or a callable's own name."""
    if isinstance(flag, str):
        return flag.rpartition(".")[2]
    return str(getattr(flag, "__name__", type(flag).__name__))


def soon_after_click(commission: Commission) -> str:
    """Flag what was done within AFFILIATE_FLAG_SECONDS of the click: hardly by a person."""
    passed = commission.converted_on - commission.visitor.clicked_on
    # Either way: the click may be of a server whose clock is ahead.
    if abs(passed) >= timedelta(seconds=settings.FLAG_SECONDS):
        return ""
    return f"{abs(passed).total_seconds():.1f} seconds after the click"


def velocity(commission: Commission) -> str:
    """Flag a partner's conversions beyond the number and period of AFFILIATE_FLAG_VELOCITY."""
    number, period = settings.FLAG_VELOCITY
    rows = Commission.objects.using(router.db_for_write(Commission)).filter(
        partner=commission.partner_id,
        converted_on__gt=commission.converted_on - period,
        converted_on__lte=commission.converted_on,
    )
    # No further than it takes, as a partner may have a lot of them.
    if rows[: number + 1].count() <= number:
        return ""
    return f"more than {number} conversions of the partner's within {period}"


def disposable_mail(commission: Commission) -> str:
    """Flag users whose mail goes to a domain that is used once and thrown away, or below one.

    Those of AFFILIATE_FLAG_MAIL_DOMAINS, and those of the package disposable-email-domains where it
    is installed, by the extra "disposable", else a few well-known ones.
    """
    user = commission.conversion.user
    if user is None:
        return ""
    address = getattr(user, user.get_email_field_name(), "") or ""
    labels = address.rpartition("@")[2].strip().rstrip(".").lower().split(".")
    for start in range(len(labels) - 1):
        domain = ".".join(labels[start:])
        if domain in blocklist or domain in settings.FLAG_MAIL_DOMAINS:
            return f"disposable mail: {domain}"
    return ""


def partner_network(commission: Commission) -> str:
    """Flag who comes from an IP network that the partner's own people have logged in from lately.

    Goes by REMOTE_ADDR, which a site behind a proxy has to set itself. Addresses that are not of
    the public Internet tell nothing: they are the proxy's. No address is kept, only digests.
    """
    request = current_request.get()
    network = _network(request)
    if not network:
        return ""
    digests = [_digest(commission.partner_id, network, key) for key in site_keys()]
    known = PartnerNetwork.objects.using(router.db_for_write(PartnerNetwork)).filter(
        partner=commission.partner_id, digest__in=digests, seen_on__gt=timezone.now() - MEMORY
    )
    return "the network of the partner's own people" if known.exists() else ""


def sees_networks() -> bool:
    """Tell whether the flag `partner_network` is used; else nothing is kept that it alone needs."""
    used = settings.FLAGS
    ours = (partner_network, f"{__name__}.{partner_network.__name__}")
    return isinstance(used, list | tuple) and any(each in used for each in ours)


def see_network(request: Any, user: Any) -> None:
    """Note where somebody logs in from, if they are one of a partner's people."""
    network = _network(request)
    if not network:
        return
    rows = PartnerNetwork.objects.using(router.db_for_write(PartnerNetwork))
    current, now = site_keys()[0], timezone.now()
    for partner_id in user.affiliate_partners.order_by("pk").values_list("pk", flat=True):
        digest = _digest(partner_id, network, current)
        rows.update_or_create(partner_id=partner_id, digest=digest, defaults={"seen_on": now})


def _network(request: Any) -> str:
    """Return the network that a request came from, "" where that tells nothing."""
    address = request.META.get("REMOTE_ADDR", "") if request else ""
    return addresses.public_network(address, PREFIXES)


@sensitive_variables()
def _digest(partner_id: int, network: str, key: str) -> str:
    # With the partner: two of the same network are not to be told by it.
    value = f"{partner_id} {network}"
    return salted_hmac(SALT, value, secret=key, algorithm="sha256").hexdigest()
