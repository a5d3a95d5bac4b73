"""Every change of programs and members, as one function each.

The API, the pages, the admin and commands are thin callers of these. A service owns its
transaction, takes no request, and announces what it did by a signal inside the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, connections, models, router, transaction
from django.utils import timezone

from ..isolation import hold_to
from ..rewards import ledger
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
    if user is not None and user.pk is None:
        raise InvalidMember("user: must be one that is saved, not whoever is anonymous")
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
    rewarded = _limit(member, using)
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
        for each in _in_order(rewarded, member.currency):
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


def _limit(member: Member, using: str) -> list[Member]:
    """Promise nothing beyond the program's limits, and return whom the reward is promised to.

    Of several at once each knows of the others.
    """
    program = member.program
    rows = Member.objects.using(using)
    if member.indicator is None:
        member.credit_minor = member.reward_minor = 0
    elif program.max_referrals is not None:
        counted = rows.filter(program=program, indicator__isnull=False)
        counted = counted.filter(models.Q(credit_minor__gt=0) | models.Q(reward_minor__gt=0))
        if counted.count() >= program.max_referrals:
            member.credit_minor = member.reward_minor = 0
    above = _above(member, using) if member.reward_minor else []
    if program.max_per_indicator is not None:
        above = [each for each in above if not _has_enough(each, program)]
    if not above:
        member.reward_minor = 0
    return above


def _has_enough(member: Member, program: Program) -> bool:
    """Tell whether a program promises a member nothing more, however many they bring."""
    rows = Operation.objects.using(router.db_for_write(Operation))
    credited = rows.filter(member=member, kind=Kind.POTENTIAL_CREDIT, about__program=program)
    number = credited.aggregate(all=models.Count("about", distinct=True))["all"]
    return bool(number >= (program.max_per_indicator or 0))


def _above(member: Member, using: str) -> list[Member]:
    """Return who brought a member, who brought that one, and so on as deep as was promised.

    Locked where there may be several or a limit, always from the member upwards: so whoever goes up
    the same line waits before they hold what others above wait for.
    """
    rows = Member.objects.using(using)
    is_shared = member.depth > 1 or member.program.max_per_indicator is not None
    found: list[Member] = []
    above = member.indicator_id
    while above is not None and len(found) < member.depth:
        found.append(locked(rows, above) if is_shared else rows.get(pk=above))
        above = found[-1].indicator_id
    return found


def _in_order(members: Sequence[Member], currency: str) -> Sequence[Member]:
    """Return members in the order of their accounts, in which a run of payouts locks these."""
    if len(members) < 2:
        return members
    return sorted(members, key=lambda each: ledger.account_of(each.holder, currency).pk)


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
    if member.depth > 1:
        _above(member, using)
    standing = Operation.objects.using(using).filter(
        about=member, kind=old, entry__minor__gt=0, entry__reversals=None
    )
    gained, lost = [], []
    # In the order of the first time, see `_in_order`.
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
