"""Take each payout through its states, each of them once: from draft to paid, failed, or back."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import Any

from django.db import models, router, transaction
from django.utils import timezone

from ..exceptions import InvalidTransition
from ..savepoints import retried
from . import ledger, privacy
from .ledger import reversal_of
from .models import Account, Entry, Payout, PayoutBatch, PayoutDestination, PayoutEntry
from .models.payouts import MAX_REASON, MAX_REFERENCE
from .signals import entry_posted, payout_settled

#: What the key of a payout's entry begins with.
KEY = "payout:"
#: Payouts that fail one by one between two looks at how far it is.
AT_ONCE = 100
#: From where a payout fails.
UNPAID = (Payout.State.DRAFT, Payout.State.APPROVED, Payout.State.SENT)


def key_of(payout: Payout) -> str:
    """Return the key of the entry by which a payout is posted."""
    return f"{KEY}{payout.pk}"


def paid_by(entry: Entry) -> int | None:
    """Return the key of the payout that an entry of that kind is the sum of; None for any other."""
    number = str(entry.key).removeprefix(KEY)
    return int(number) if entry.kind == Entry.Kind.PAYOUT and number.isdecimal() else None


def approve(payout: Payout) -> Payout:
    """Let a draft be sent. Raises InvalidTransition where it is none any more."""
    return _move(
        payout, Payout.State.DRAFT, state=Payout.State.APPROVED, approved_on=timezone.now()
    )


def approve_batch(batch: PayoutBatch) -> int:
    """Let what is still a draft of a batch be sent; return how many payouts that are."""
    drafts = _rows().filter(batch=batch, state=Payout.State.DRAFT)
    return drafts.update(state=Payout.State.APPROVED, approved_on=timezone.now())


def mark_sent(payout: Payout, provider_reference: str = "") -> Payout:
    """Note that an approved payout is about to be sent, which is noted before it is.

    Raises InvalidTransition where it is not approved, or was sent by somebody else.
    """
    changes = _referred(provider_reference)
    return _move(
        payout,
        Payout.State.APPROVED,
        state=Payout.State.SENT,
        sent_on=timezone.now(),
        **changes,
    )


def send_batch(batch: PayoutBatch, method: str) -> int:
    """Note that what is approved of a batch and goes by `method` is about to be sent.

    Returns how many payouts that are. Each keeps where it goes to, whatever becomes of its holder's
    destination, so that it is in the files of one provider and never in another's. Whoever has no
    destination is not among them.
    """
    theirs = _destinations().filter(method=method)
    return sendable(batch, method).update(
        state=Payout.State.SENT,
        sent_on=timezone.now(),
        method=method,
        name=models.Subquery(theirs.values("name")[:1]),
        email=models.Subquery(theirs.values("email")[:1]),
    )


def sendable(batch: PayoutBatch, method: str = "") -> models.QuerySet[Payout]:
    """Return what is approved of a batch and goes by `method`; without one, what goes nowhere."""
    rows = _rows().filter(batch=batch, state=Payout.State.APPROVED)
    if not method:
        return rows.filter(~models.Exists(_destinations()))
    return rows.filter(models.Exists(_destinations().filter(method=method)))


def _destinations() -> models.QuerySet[PayoutDestination]:
    """Return the destinations of the holder of a payout that is asked for around it."""
    holder = Account.objects.filter(pk=models.OuterRef(models.OuterRef("account_id")))
    # There is one at most of each, which Django wants said.
    return PayoutDestination.objects.filter(holder=models.Subquery(holder.values("holder")[:1]))


def mark_paid(payout: Payout, provider_reference: str = "") -> Payout:
    """Note that what was sent has arrived. Sends `payout_settled`.

    Raises InvalidTransition where it was not sent, or is settled already.
    """
    changes = _referred(provider_reference)
    with transaction.atomic(using=router.db_for_write(Payout)):
        _move(
            payout, Payout.State.SENT, state=Payout.State.PAID, settled_on=timezone.now(), **changes
        )
        privacy.forget_settled(payout)
        _announce(payout)
    return payout


def fail(payout: Payout, reason: str, *, origins: tuple[str, ...] = UNPAID) -> Payout:
    """Note that nobody was paid, and give the entries back: what is owed is owed again.

    What was sent has failed only if the provider says so. Sends `entry_posted` and
    `payout_settled`. Raises InvalidTransition where it is in none of the states `origins`.
    """
    return _give_back(payout, origins, reason, state=Payout.State.FAILED, settled_on=timezone.now())


def mark_returned(payout: Payout, reason: str) -> Payout:
    """Note that what had arrived came back, as by a bank days later, and give the entries back.

    Only if the provider says so. Sends `entry_posted`, and `payout_settled` once more. Raises
    InvalidTransition where it was not paid, or came back already.
    """
    now = timezone.now()
    return _give_back(
        payout, (Payout.State.PAID,), reason, state=Payout.State.RETURNED, returned_on=now
    )


def dropping(batch: PayoutBatch, reason: str) -> Generator[tuple[int, int], None, int]:
    """Let all of a batch fail that nobody has begun to pay, one by one; yield the progress.

    Returns how many payouts failed. Raises InvalidTransition where any of it is no draft any more,
    and has not failed; what somebody approves in the midst of it stays.
    """
    rows = _rows().filter(batch=batch)
    if rows.exclude(state__in=(Payout.State.DRAFT, Payout.State.FAILED)).exists():
        raise InvalidTransition(f"batch: {batch} is not a draft as a whole")
    drafts = rows.filter(state=Payout.State.DRAFT).order_by("pk")
    dropped, done, last, total = 0, 0, 0, drafts.count()
    while some := list(drafts.filter(pk__gt=last)[:AT_ONCE]):
        for payout in some:
            with suppress(InvalidTransition):
                fail(payout, reason, origins=(Payout.State.DRAFT,))
                dropped += 1
        done, last = done + len(some), some[-1].pk
        yield done, max(total, done)
    return dropped


def _give_back(payout: Payout, origins: tuple[str, ...], reason: str, **changes: Any) -> Payout:
    using = router.db_for_write(Payout)
    now = timezone.now()

    def give_back() -> None:
        entry = Entry.objects.using(using).get(key=key_of(payout))
        # A run of payouts, which needs the claims that are given up here.
        ledger.wait_for(entry.contra_id, using)
        _move(payout, *origins, reason=ledger.fitting(reason, MAX_REASON), **changes)
        privacy.forget_settled(payout)
        PayoutEntry.objects.using(using).filter(payout=payout).update(claimed=None)
        key = f"reversal:{entry.pk}:{payout.minor}"
        # Without the reason: it may name somebody, and nothing can be erased from the ledger.
        back = reversal_of(entry, entry.minor, key=key, now=now)
        back.save(force_insert=True, using=using)
        entry_posted.announce(Entry, using=using, entry=back)
        _announce(payout)

    retried(give_back, using)
    return payout


def _rows() -> models.QuerySet[Payout]:
    return Payout.objects.using(router.db_for_write(Payout))


def _move(payout: Payout, *origins: str, **changes: Any) -> Payout:
    if not _rows().filter(pk=payout.pk, state__in=origins).update(**changes):
        raise InvalidTransition(f"payout: {payout} is not {' or '.join(map(str, origins))}")
    for name, value in changes.items():
        setattr(payout, name, value)
    return payout


def is_reference(text: str) -> bool:
    """Tell whether a provider's reference, or none, can be noted."""
    return len(text) <= MAX_REFERENCE and text.isprintable()


def _referred(reference: str) -> dict[str, str]:
    if not is_reference(reference):
        raise ValueError(
            f"provider_reference: must be at most {MAX_REFERENCE} characters, none a control one"
        )
    # What was known of it before is kept.
    return {"provider_reference": reference} if reference else {}


def _announce(payout: Payout) -> None:
    payout_settled.announce(Payout, using=router.db_for_write(Payout), payout=payout)
