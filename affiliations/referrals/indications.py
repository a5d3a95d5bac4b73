"""Note whom members would bring, by their e-mail addresses; whoever is first has indicated them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, router, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import get_language
from django.views.decorators.debug import sensitive_variables

from ..models.partners import current_fingerprint, site_keys
from ..savepoints import retried
from .conf import settings
from .exceptions import ProgramEnded
from .models import EmailIndication, MailRefusal, Member
from .models.indications import MAX_EMAIL, MAX_LINK
from .services import locked

__all__ = ["Indicated", "Refused", "indicate", "indicators", "invite", "normal", "refuse_mails"]

#: Addresses that are taken at once.
AT_ONCE = 1000
NEW = "new"
SALT = "affiliations.referrals.refusal.v1"


class Refused(NamedTuple):
    """An address that was not noted, and why.

    "invalid", the member's "own", "indicated" by somebody else, "unwanted" by whose it is, or
    beyond the "limit".
    """

    email: str
    reason: str


class Indicated(NamedTuple):
    """What was noted, and what was not."""

    saved: list[EmailIndication]
    refused: list[Refused]


def normal(email: str) -> str:
    """Return an address as it is compared, trimmed and in small letters; "" where it is none."""
    email = email.strip().lower()
    if len(email) > MAX_EMAIL or not email.isprintable():
        return ""
    try:
        validate_email(email)
    except ValidationError:
        return ""
    return email


def indicate(member: Member, emails: Iterable[str]) -> Indicated:
    """Note the addresses of people whom a member would bring; nobody is written to.

    At most a thousand at once. Of several members the first one has indicated an address; the same
    member again has, too. Raises ProgramEnded where nobody can register any more, and ValueError
    where there are too many.
    """
    return _noted(member, emails, link="", limit=None)


def invite(member: Member, emails: Iterable[str], link: str) -> Indicated:
    """Note them, and have each written to, once, with the member's share link.

    No more than AFFILIATE_REFERRALS_INVITATIONS says, which is exact also where several pages of
    one member's are at it; and nobody who has refused to be written to. The mails are sent by
    `mails.send_due`. Raises what `indicate` raises, and ValueError for a link that is too long.
    """
    if not 0 < len(link) <= MAX_LINK:
        raise ValueError(f"link: must be 1 to {MAX_LINK} characters")
    return _noted(member, emails, link=link, limit=settings.REFERRALS_INVITATIONS)


def _noted(
    member: Member, emails: Iterable[str], *, link: str, limit: tuple[int, timedelta] | None
) -> Indicated:
    given = _different(emails)
    using = router.db_for_write(EmailIndication)

    def once() -> Indicated:
        now = timezone.now()
        row: Member = locked(Member.objects.using(using), member.pk)
        if not row.program.is_open(now):
            raise ProgramEnded(f"program: {row.program} is over, has not begun or is not active")
        found = Indicated([], [])
        left = None
        if limit is not None:
            number, period = limit
            lately = EmailIndication.objects.using(using).filter(
                indicator=row, created_on__gt=now - period
            )
            left = number - lately.exclude(link="").count()
        for email, said in given.items():
            reason, indication = _note(row, email, link, left, using)
            if indication is None:
                found.refused.append(Refused(said, reason))
                continue
            found.saved.append(indication)
            # One that was there is counted already, also where another page has just noted it.
            if left is not None and reason == NEW:
                left -= 1
        return found

    return retried(once, using)


def _different(emails: Iterable[str]) -> dict[str, str]:
    """Return by what they are compared as, or as they are where that is none, what was given."""
    found: dict[str, str] = {}
    for each in emails:
        if said := each.strip():
            found.setdefault(normal(said) or said, said)
    if len(found) > AT_ONCE:
        raise ValueError(f"emails: must be at most {AT_ONCE}")
    return found


def _note(
    member: Member, email: str, link: str, left: int | None, using: str
) -> tuple[str, EmailIndication | None]:
    """Return why an address is not noted, or what was noted of it, and whether that is new."""
    if not normal(email):
        return "invalid", None
    if member.user is not None and email == normal(getattr(member.user, "email", "")):
        return "own", None
    rows = EmailIndication.objects.using(using).filter(program=member.program_id, email=email)
    there = rows.first()
    if there is None:
        if link and is_refused(email):
            return "unwanted", None
        if left is not None and left <= 0:
            return "limit", None
        indication = EmailIndication(
            program=member.program,
            indicator=member,
            email=email,
            link=link,
            language=(get_language() or "") if link else "",
            mail_due=bool(link),
        )
        try:
            with transaction.atomic(using=using):
                indication.save(force_insert=True, using=using)
        except IntegrityError:
            # Somebody else was faster.
            there = rows.first()
        else:
            return NEW, indication
    if there is None or there.indicator_id != member.pk:
        return "indicated", None
    return "", there


def indicators(emails: Iterable[str]) -> dict[str, Member | None]:
    """Return for each address who has indicated it first, in whichever program, or None."""
    known = {said: email for email, said in _different(emails).items()}
    rows = EmailIndication.objects.using(router.db_for_write(EmailIndication))
    named = rows.filter(email__in={email for email in known.values() if normal(email)})
    first: dict[str, Member] = {}
    for row in named.select_related("indicator").order_by("created_on", "pk"):
        first.setdefault(row.email, row.indicator)
    return {each: first.get(email) for each, email in known.items()}


def indicator_of(email: str) -> EmailIndication | None:
    """Return by whom an address was indicated first, of the programs that are open now."""
    now, known = timezone.now(), normal(email)
    rows = EmailIndication.objects.using(router.db_for_write(EmailIndication))
    named = rows.filter(email=known, member=None).order_by("created_on", "pk") if known else ()
    open_ones = (each for each in named if each.program.is_open(now))
    return next(open_ones, None)


def refuse_mails(token: str) -> bool:
    """Write no more to whom a mail with this token was sent; tell whether there was one.

    And whether the address is still known: of one that was erased nothing can be kept.
    """
    using = router.db_for_write(EmailIndication)
    with transaction.atomic(using=using):
        rows = EmailIndication.objects.using(using)
        row = rows.filter(token=token).first() if _is_token(token) else None
        if row is None or row.is_erased:
            return False
        MailRefusal.objects.using(using).get_or_create(
            digest=digests_of(row.email)[0], defaults={"fingerprint": current_fingerprint()}
        )
        rows.filter(email=row.email, mail_due=True).update(mail_due=False)
    return True


def _is_token(token: str) -> bool:
    return token.isascii() and token.isprintable()


@sensitive_variables()
def digests_of(email: str) -> list[str]:
    """Return what an address is known by that is to be forgotten, but not to be written to.

    By each of the site's keys, the current one first.
    """
    return [
        salted_hmac(SALT, email, secret=key, algorithm="sha256").hexdigest() for key in site_keys()
    ]


def is_refused(email: str) -> bool:
    """Tell whether an address wants no invitations."""
    rows = MailRefusal.objects.using(router.db_for_write(MailRefusal))
    return rows.filter(digest__in=digests_of(email)).exists()
