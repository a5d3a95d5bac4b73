"""Mail whoever has to know that a payout is to be held back."""

from __future__ import annotations

from django.core.mail import send_mail
from django.db import router
from django.utils.translation import gettext as _

from .conf import settings
from .models import Transaction

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task  # type: ignore[no-redef]

__all__ = ["ask", "send_due"]


@task()
def send_refund_alerts() -> None:
    """Mail the refunds that nobody was told of yet."""
    send_due()


def ask() -> None:
    """Have the mails sent by the site's engine of tasks."""
    send_refund_alerts.enqueue()


def send_due() -> int:
    """Mail each refund of which nobody was told; return how many there were.

    At least once each: noted only when the mail was handed over, so that a process that ends in
    between has it sent again. Raises what the mail server's refusal raises.
    """
    rows = Transaction.objects.using(router.db_for_write(Transaction))
    sent = 0
    for refunded in rows.filter(alert_due=True).select_related("link__partner", "user"):
        recipients = list(settings.REFUND_ALERTS)
        if recipients:
            send_mail(_subject(refunded), _text(refunded), None, recipients)
            sent += 1
        rows.filter(pk=refunded.pk).update(alert_due=False)
    return sent


def _subject(refunded: Transaction) -> str:
    # Its pk, and nothing that anybody wrote: a line break would be an error, or a header.
    return _("Refund: hold the payout of transaction %(pk)s") % {"pk": refunded.pk}


def _text(refunded: Transaction) -> str:
    link, told = refunded.link, refunded.relay
    nothing = _("none")
    if refunded.adjustment is not None:
        became = _("The network had been told, and is now told that it does not count.")
    elif told is not None and told.state == told.State.REFUSED:
        became = _("The network had refused it.")
    elif told is not None:
        became = _("The network had not been told yet, and will not be.")
    else:
        became = _("No network was to be told.")
    lines = [
        _("A purchase that came through an affiliate link was refunded."),
        "",
        f"{_('Item')}: {refunded.item_id}",
        f"{_('Order')}: {refunded.order_id or nothing}",
        f"{_('Amount')}: {refunded.money}",
        f"{_('User')}: {refunded.user_id or nothing}",
        f"{_('Link')}: {refunded.path}",
        f"{_('Partner')}: {link.partner or nothing}",
        f"{_('Network’s transaction')}: {refunded.network_id or nothing}",
        f"{_('Refunded on')}: {refunded.refunded_on:%Y-%m-%d %H:%M} UTC",
        "",
        became,
    ]
    return "\n".join(lines)
