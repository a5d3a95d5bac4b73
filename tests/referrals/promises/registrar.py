"""A site's process that registers somebody, and notes what they have paid.

What chaos_worker.py does in the roles "register" and "report".
"""

from types import SimpleNamespace

from django.conf import settings

from affiliations import tasks
from affiliations.money import Money
from affiliations.referrals import invoices, services
from affiliations.referrals.models import Member
from tests.rewards.promises.payer import die_at

BILLING = "https://billing.example/{user_hash}"


def register(*, user_hash: str, indicator: int, statement: int, behind: bool) -> None:
    """Register somebody; die at the database's statement of that number, or behind it."""
    above = Member.objects.get(pk=indicator)
    _begin(statement, behind)
    services.register(user_hash, indicator=above)


def report(*, member: int, minor: int, statement: int, behind: bool) -> None:
    """Note what somebody has paid in all; die as above."""
    row = Member.objects.get(pk=member)
    _begin(statement, behind)
    invoices.report_total(row, Money(minor, row.currency))


def _begin(statement: int, behind: bool) -> None:
    settings.AFFILIATE_REFERRALS_BILLING_URL = BILLING
    # Nobody is called: what is in the outbox is what counts.
    tasks.deliver_callbacks = SimpleNamespace(enqueue=lambda ids: None)
    tasks.run_at_once = lambda: False
    die_at(statement, behind)


def unjoined() -> None:
    """Register and settle without a transaction: each statement is committed by itself."""
    services.retried = invoices.retried = lambda action, using: action()
    invoices.locked = services.locked = lambda rows, pk: rows.get(pk=pk)
