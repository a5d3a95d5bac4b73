"""Bring users together with whoever sent them: share links, and sign-ups that came by them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from django.db import router
from django.utils import timezone
from django.utils.module_loading import import_string

from ..conf import settings as core
from ..middleware import is_wanted
from ..services import guarded
from ..visits import user_of
from . import indications, services
from .conf import settings
from .exceptions import AlreadyRegistered, NotRegistered
from .models import Member
from .models.members import ALPHABET, CODE_LENGTH

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["arrive", "hash_of", "join", "link_of", "member_of", "share_query"]

#: The session's key of who sent this browser: [the member's number, when, in seconds].
SESSION_KEY = "affiliate_referral"


def arrive(request: HttpRequest, code: str, location: str) -> None:
    """Keep in the session whose share link somebody has followed.

    The first one or the last one, as AFFILIATE_ATTRIBUTION says; a policy of the site's own is one
    for partners, and here the last one counts. Not their own, nor for a robot or without consent.
    """
    session = getattr(request, "session", None)
    if session is None or not is_code(code):
        return
    member = Member.objects.filter(code=code).select_related("program").first()
    if member is None or not member.program.is_open(timezone.now()) or not is_wanted(request):
        return
    user = user_of(request)
    if user is not None and user.pk == member.user_id:
        return
    if core.ATTRIBUTION == "first" and sender(request) is not None:
        return
    session[SESSION_KEY] = [member.pk, int(timezone.now().timestamp())]


def is_code(code: str) -> bool:
    """Tell whether it may be somebody's share code: other sites link with a `ref` of their own."""
    return len(code) == CODE_LENGTH and set(code) <= set(ALPHABET)


def sender(request: Any) -> Member | None:
    """Return whose share link this browser has followed last, within AFFILIATE_WINDOW."""
    kept = getattr(request, "session", {}).get(SESSION_KEY)
    # Whoever else writes into the session may have left anything there.
    if not (isinstance(kept, list) and len(kept) == 2 and all(type(each) is int for each in kept)):
        return None
    pk, moment = kept
    age = timezone.now().timestamp() - moment
    if not 0 < pk < 2**63 or age > core.WINDOW.total_seconds():
        return None
    return Member.objects.using(router.db_for_write(Member)).filter(pk=pk).first()


def join(request: Any, user: Any) -> None:
    """Register a new user whom somebody has sent; whatever goes wrong, they have signed up.

    By the share link that their browser has followed, or else by their e-mail address, if somebody
    has indicated it.
    """
    guarded(lambda: _join(user, sender(request)), "A new user was not registered as referred")
    if SESSION_KEY in getattr(request, "session", ()):
        del request.session[SESSION_KEY]


def _join(user: Any, indicator: Member | None) -> None:
    email = getattr(user, "email", "") or ""
    indication = indications.indicator_of(email)
    if indicator is None and indication is not None:
        indicator = indication.indicator
    if indicator is None:
        return
    try:
        member = services.register(hash_of(user), indicator=indicator, user=user)
    except NotRegistered:
        # The program has ended meanwhile, say: they are a user all the same.
        return
    if indication is not None and indication.indicator_id == indicator.pk:
        indication.member, indication.mail_due = member, False
        indication.waiting_since = None
        indication.save(update_fields=["member", "mail_due", "waiting_since"])


def hash_of(user: Any) -> str:
    """Return by which hash the billing system is to know a new member: the site's own, or ours."""
    path = settings.REFERRALS_USER_HASH
    if path is None:
        return secrets.token_hex(16)
    return str((import_string(path) if isinstance(path, str) else path)(user))


def member_of(user: Any) -> Member:
    """Return the member that a user is, registered in the usual program if they are none yet.

    Raises UnknownProgram where there is no program that they could register in, and InvalidMember
    where AFFILIATE_REFERRALS_USER_HASH answers with no hash.
    """
    rows = Member.objects.using(router.db_for_write(Member)).select_related("program")
    found = rows.filter(user=user).first()
    if found is not None:
        return found
    try:
        return services.register(hash_of(user), user=user)
    except AlreadyRegistered:
        # Two pages of theirs at once, or somebody else by this hash.
        there = rows.filter(user=user).first()
        if there is None:
            raise
        return there


def link_of(request: HttpRequest, member: Member, path: str = "/") -> str:
    """Return a member's share link to a path of this site, with or without a query of its own."""
    joint = "&" if "?" in path else "?"
    return request.build_absolute_uri(f"{path}{joint}{share_query(member)}")


def share_query(member: Member) -> str:
    """Return the query that makes any address of the site a member's share link."""
    return f"{settings.REFERRALS_KEY}={member.code}"
