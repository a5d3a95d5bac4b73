"""React to the signals of Django and of the core."""

from __future__ import annotations

from typing import Any

from django.db import router, transaction
from django.db.models.signals import post_delete, post_save

from ..models import Partner
from ..signals import user_exported, user_forgotten, visitor_identified
from . import alerts, privacy, routing, services
from .models import LandingPage, Link, Transaction
from .signals import transaction_refunded


def acquire(*, ident: str, user: Any, **kwargs: Any) -> None:
    """Give the browser's open transactions to whom it has become."""
    services.acquire(ident=ident, user=user)


def forget_link(*, instance: Link, **kwargs: Any) -> None:
    """See a change of a link at once in the process that made it."""
    routing.forget(instance.path)


def forget_page(*, instance: LandingPage, **kwargs: Any) -> None:
    """See a change of a link's landing pages likewise."""
    routing.forget(instance.link.path)


def forget_links(**kwargs: Any) -> None:
    """See a change of a partner likewise, in whichever links are theirs."""
    routing.forget_all()


def mail_alert(**kwargs: Any) -> None:
    """Ask for the mail once the refund is committed."""
    # Robust: a broker or a mail server that is down must not break the refund.
    transaction.on_commit(alerts.ask, using=router.db_for_write(Transaction), robust=True)


def connect() -> None:
    """Connect everything in this module, once."""
    visitor_identified.connect(acquire, dispatch_uid="affiliations.links.acquire")
    user_exported.connect(privacy.export, dispatch_uid="affiliations.links.export")
    user_forgotten.connect(privacy.forget, dispatch_uid="affiliations.links.forget")
    transaction_refunded.connect(mail_alert, dispatch_uid="affiliations.links.alert")
    for signal in (post_save, post_delete):
        signal.connect(forget_link, sender=Link, dispatch_uid="affiliations.links.link")
        signal.connect(forget_page, sender=LandingPage, dispatch_uid="affiliations.links.page")
        signal.connect(forget_links, sender=Partner, dispatch_uid="affiliations.links.partner")
