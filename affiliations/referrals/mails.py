"""Write to the people whom members have invited: each of them once, and never twice."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

from django.core.mail import EmailMessage
from django.db import router, transaction
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils import timezone, translation

from .indications import is_refused
from .models import EmailIndication, Member

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task  # type: ignore[no-redef]

__all__ = ["ask", "name_of", "send_due"]

logger = logging.getLogger(__name__)

#: What of a name is written to strangers: an address, or a sentence, would be advertised by us.
NAME = re.compile(r"[^\W\d_]+([ '’-][^\W\d_]+){0,3}")
MAX_NAME = 40


@task()
def send_invitations() -> None:
    """Send the mails that are due."""
    send_due()


def ask() -> None:
    """Have the mails sent by the site's engine of tasks, once what is written is committed."""

    def wake() -> None:
        send_invitations.enqueue()

    # Robust: a broker or a mail server that is down must not break the page.
    transaction.on_commit(wake, using=router.db_for_write(EmailIndication), robust=True)


def send_due() -> int:
    """Write to everybody to whom it is due; return how many mails were handed over.

    Noted before each is: whoever ends in between has one person not written to, rather than
    somebody, who has not asked for it, twice. What the mail server refuses is due again.
    """
    using = router.db_for_write(EmailIndication)
    rows = EmailIndication.objects.using(using)
    due = rows.filter(mail_due=True).select_related("indicator__user", "program").order_by("pk")
    sent = 0
    for indication in due.iterator():
        claimed = rows.filter(pk=indication.pk, mail_due=True)
        if not claimed.update(mail_due=False, mailed_on=timezone.now()):
            continue
        if is_refused(indication.email):
            rows.filter(pk=indication.pk).update(mailed_on=None)
            continue
        try:
            message(indication).send()
        except Exception:
            # Not of an address that was erased meanwhile: it would fail, and hold up all others.
            still = rows.filter(pk=indication.pk, email=indication.email)
            still.update(mail_due=True, mailed_on=None)
            logger.exception("Invitation %s could not be sent", indication.pk)
            break  # the next ones would fare no better
        sent += 1
    return sent


def message(indication: EmailIndication) -> EmailMessage:
    """Return the mail to somebody who was invited, in the language of whoever invited them."""
    stop = stop_address(indication)
    context = {
        "indication": indication,
        "program": indication.program,
        "name": name_of(indication.indicator),
        "link": indication.link,
        "stop": stop,
    }
    with translation.override(indication.language or None):
        subject = render_to_string("affiliations/referrals/invitation_subject.txt", context)
        body = render_to_string("affiliations/referrals/invitation.txt", context)
    headers = {}
    if stop:
        # RFC 8058: one click in the mail program, and no page.
        headers = {
            "List-Unsubscribe": f"<{stop}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
    # A line break would be a header.
    return EmailMessage(" ".join(subject.split()), body, None, [indication.email], headers=headers)


def stop_address(indication: EmailIndication) -> str:
    """Return where no more mails are asked for, "" where the pages are mounted nowhere."""
    try:
        path = reverse("affiliations_referrals:stop", args=[indication.token])
    except NoReverseMatch:
        return ""
    site = urlsplit(indication.link)
    return f"{site.scheme}://{site.netloc}{path}"


def name_of(member: Member) -> str:
    """Return what a member is called to strangers, "" where that is no plain name.

    No e-mail address, and no number.
    """
    full = getattr(member.user, "get_full_name", lambda: "")() if member.user else ""
    name = " ".join(str(full).split())
    return name if len(name) <= MAX_NAME and NAME.fullmatch(name) else ""
