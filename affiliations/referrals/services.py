"""Every change of programs and members, as one function each.

The API, the pages, the admin and commands are thin callers of these. A service owns its
transaction, takes no request, and announces what it did by a signal inside the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import IntegrityError, connections, models, router, transaction
from django.utils import timezone

from ..rewards import ledger
from ..rewards.isolation import hold_to
from ..rewards.models import Entry
from ..savepoints import retried
from . import billing
from .exceptions import (
    AlreadyRegistered,
    CircularReferral,
    InvalidMember,
    ProgramEnded,
    SelfReferral,
    UnknownMember,
    UnknownProgram,
)
from .models import Member, Operation, Program
from .models.members import MAX_HASH
from .signals import credit_acquired, credit_lost, member_registered

__all__ = ["find_member", "register", "settle", "usual_program"]

Kind = Operation.Kind
#: So far up somebody is looked for who is to be brought by whom they have brought.
FURTHEST = 100


def find_member(user_hash: str) -> Member:
    """Return the member of a hash; raises UnknownMember."""
    if is_hash(user_hash):
        rows = Member.objects.using(router.db_for_write(Member)).select_related("program")
        found = rows.filter(user_hash=user_hash).first()
        if found is not None:
            return found
    raise UnknownMember(f"user_hash: there is no member {user_hash!r:.80}")


def is_hash(value: object) -> bool:
    """Tell whether somebody can be known by it: visible characters of ASCII."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_HASH:
        return False
    return value.isascii() and value.isprintable() and " " not in value


def usual_program() -> Program:
    """Return the first program that somebody can register in now; raises UnknownProgram."""
    now = timezone.now()
    rows = Program.objects.using(router.db_for_write(Program)).filter(active=True).order_by("pk")
    for program in rows:
        if program.is_open(now):
            return program
    raise UnknownProgram("program: there is none that somebody could register in")


def register(
    user_hash: str,
    *,
    indicator: Member | None = None,
    program: Program | None = None,
    user: Any = None,
) -> Member:
    """Make somebody a member, and credit what is promised to them and to who brought them.

    `user_hash` has up to 200 visible characters of ASCII. Without an `indicator` nobody is
    credited. The program is the indicator's, unless another one is given. What it promises is kept
    with the member. Everything happens, the callbacks to the billing system included, or nothing.
    Sends `member_registered`.

    Raises InvalidMember, AlreadyRegistered, CircularReferral, SelfReferral, ProgramEnded, and
    UnknownProgram where there is none at all.
    """
    if not is_hash(user_hash):
        raise InvalidMember(
            f"user_hash: must be 1 to {MAX_HASH} visible characters of ASCII, not {user_hash!r:.80}"
        )
    using = router.db_for_write(Member)
    return retried(lambda: _register(user_hash, indicator, program, user, using), using)


def _register(
    user_hash: str, indicator: Member | None, program: Program | None, user: Any, using: str
) -> Member:
    # Elsewhere it would not be seen who was faster.
    hold_to(connections[using])
    now = timezone.now()
    if indicator is not None:
        if indicator.user_hash == user_hash or (user and indicator.user_id == user.pk):
            raise SelfReferral("indicator: nobody brings themselves")
        chosen = program.pk if program is not None else indicator.program_id
    else:
        chosen = (program or usual_program()).pk
    _refuse_again(user_hash, user, indicator, using)
    promised = Program.objects.using(using).filter(pk=chosen).first()
    if promised is None:
        raise UnknownProgram("program: there is none such, or none any more")
    if promised.max_referrals is not None:
        promised = locked(Program.objects.using(using), chosen)
    if not promised.is_open(now):
        raise ProgramEnded(f"program: {promised} is over, has not begun or is not active")
    member = Member(
        user_hash=user_hash, user=user, program=promised, indicator=indicator, registered_on=now
    )
    member.promise(promised)
    _limit(member, using)
    try:
        with transaction.atomic(using=using):
            member.save(force_insert=True, using=using)
    except IntegrityError:
        # Somebody was faster; anything else goes on.
        _refuse_again(user_hash, user, indicator, using)
        raise
    _note(member, member, Kind.SIGNUP)
    if indicator is not None:
        _note(indicator, member, Kind.INDICATION)
        if member.credit_minor:
            billing.tell([_credit(member, member, Kind.SIGNUP_CREDIT)])
        if member.reward_minor:
            for each in ancestors(member, using):
                _credit(each, member, Kind.POTENTIAL_CREDIT, promised=True)
    settle(member)
    member_registered.announce(Member, using=using, member=member)
    return member


def _refuse_again(user_hash: str, user: Any, indicator: Member | None, using: str) -> None:
    """Raise AlreadyRegistered where somebody is there by this hash, or is this user."""
    same = models.Q(user_hash=user_hash)
    if user is not None:
        same |= models.Q(user=user)
    there = Member.objects.using(using).filter(same).first()
    if there is None:
        return
    rows = Member.objects.using(using)
    above = indicator.pk if indicator is not None else None
    for _ in range(FURTHEST):
        if above is None:
            break
        if above == there.pk:
            raise CircularReferral("indicator: they were brought by whom they are to bring")
        above = rows.values_list("indicator", flat=True).get(pk=above)
    raise AlreadyRegistered("user_hash: is registered already")


def locked(rows: models.QuerySet[Any], pk: int) -> Any:
    """Return a row that nobody else changes until the transaction is over.

    Raises ImproperlyConfigured on a connection where that would be in vain, see isolation.py.
    """
    hold_to(connections[rows.db])
    no_key = connections[rows.db].features.has_select_for_no_key_update
    return rows.select_for_update(no_key=no_key).get(pk=pk)


def _limit(member: Member, using: str) -> None:
    """Promise nothing beyond the program's limits: of several at once each knows of the others."""
    program, indicator = member.program, member.indicator
    if indicator is None:
        member.credit_minor = member.reward_minor = 0
        return
    rows = Member.objects.using(using)
    if program.max_referrals is not None:
        counted = rows.filter(program=program, indicator__isnull=False)
        counted = counted.filter(models.Q(credit_minor__gt=0) | models.Q(reward_minor__gt=0))
        if counted.count() >= program.max_referrals:
            member.credit_minor = member.reward_minor = 0
    if program.max_per_indicator is not None and member.reward_minor:
        locked(rows, indicator.pk)
        counted = rows.filter(indicator=indicator, reward_minor__gt=0)
        if counted.count() >= program.max_per_indicator:
            member.reward_minor = 0


def ancestors(member: Member, using: str) -> Iterator[Member]:
    """Yield who is credited for a member: who brought them, and so on as deep as was promised."""
    above = member.indicator_id
    for _ in range(member.depth):
        if above is None:
            return
        found = Member.objects.using(using).get(pk=above)
        yield found
        above = found.indicator_id


def _note(member: Member, about: Member, kind: str, entry: Entry | None = None) -> Operation:
    row = Operation(member=member, about=about, kind=kind, entry=entry)
    row.save(force_insert=True, using=router.db_for_write(Operation))
    return row


def _credit(member: Member, about: Member, kind: str, *, promised: bool = False) -> Operation:
    """Post what somebody is credited for a member, and note it."""
    money = about.credit if kind == Kind.SIGNUP_CREDIT else about.reward
    entry = ledger.post(
        ledger.account_of(member.holder, money.currency),
        money,
        kind=Entry.Kind.CREDIT,
        key=f"referral:{about.pk}:{member.pk}:{kind}:{about.turn}",
        # It names nobody: nothing can ever be erased from the ledger.
        memo=str(Kind(kind).label),
        promised=promised,
    )
    return _note(member, about, kind, entry)


def settle(member: Member) -> int:
    """Credit who brought a member if that has paid enough, or take it back; in a transaction.

    Of all that is at stake for a member one thing is there: it is promised, or acquired. Returns in
    minor units what the indicator gains, or below zero loses. Whoever calls it has locked the
    member's row. Sends `credit_acquired`, or `credit_lost`.
    """
    reached = member.paid_minor >= member.target_minor
    if not member.reward_minor or reached == (member.acquired_on is not None):
        return 0  # nothing is at stake, or nothing has changed
    using = router.db_for_write(Member)
    old, new = Kind.POTENTIAL_CREDIT, Kind.ACQUIRED_CREDIT
    if not reached:
        old, new = new, old
        # By it the entries of each time have keys of their own.
        member.turn += 1
    standing = Operation.objects.using(using).filter(
        about=member, kind=old, entry__minor__gt=0, entry__reversals=None
    )
    gained, lost = [], []
    for each in standing.select_related("member", "entry").order_by("pk"):
        entry: Any = each.entry
        back = ledger.reverse(entry, memo=str(old.label))
        lost.append(_note(each.member, member, old, back))
        gained.append(_credit(each.member, member, new, promised=not reached))
    member.acquired_on = timezone.now() if reached else None
    member.save(using=using, update_fields=["acquired_on", "turn"])
    changed = gained if reached else lost
    billing.tell(changed)
    signal = credit_acquired if reached else credit_lost
    signal.announce(Member, using=using, member=member, operations=changed)
    theirs = [each for each in changed if each.member_id == member.indicator_id]
    return sum(each.minor for each in theirs)
