"""Tell the billing system what was credited to whom: through the outbox, so that none is lost.

As GetupCloud's server did it: a form, posted to the address of whoever is credited.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from django.db import router

from .. import outbox
from ..models import Callback
from ..money import major
from .conf import PLACEHOLDERS, USER_HASH, settings, template
from .models import Member, Operation

__all__ = ["tell"]


def tell(operations: Sequence[Operation]) -> None:
    """Write a callback for each of these credits, in the caller's transaction.

    The `webhook-id` is the same at each attempt: by it the billing system credits somebody once.
    What is taken back has an amount below zero. Nothing where AFFILIATE_REFERRALS_BILLING_URL is
    not set.
    """
    url = template(settings.REFERRALS_BILLING_URL)
    if not url or not operations:
        return
    # By themselves they would be read from a replica, which may not know of them yet.
    members = Member.objects.using(router.db_for_write(Member))
    members = members.select_related("program", "indicator")
    about = members.in_bulk({each.about_id for each in operations})
    calls = [_callback(url, each, about[each.about_id]) for each in operations]
    for operation, callback in zip(operations, outbox.enqueue(calls), strict=True):
        operation.callback = callback
        operation.save(update_fields=["callback"])


def _callback(url: str, operation: Operation, about: Member) -> Callback:
    callback = Callback(method=Callback.Method.POST, created_on=operation.created_on)
    if outbox.aim(callback, url, {USER_HASH: operation.member.user_hash}, PLACEHOLDERS):
        callback.body = urlencode(
            {
                "amount": f"{major(operation.minor, about.currency):f}",
                "program_name": about.program.name,
                "user_indicator_hash": about.indicator.user_hash if about.indicator else "",
                # Not in its document: of a sign-up, or of the target.
                "operation": operation.kind,
                "currency": about.currency,
            }
        )
    return callback
