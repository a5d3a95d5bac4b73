"""An audit finds nothing where nothing is wrong, and whatever is planted where something is."""

import io
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.utils import timezone

from affiliations.models import Conversion
from affiliations.money import Money
from affiliations.rewards import audit, commissions, ledger, protection, receivers, rules
from affiliations.rewards.audit import earnings, runs
from affiliations.rewards.audit.differences import Problem
from affiliations.rewards.models import (
    Commission,
    CommissionRule,
    Entry,
    Payout,
    PayoutBatch,
    PayoutEntry,
    Review,
    Snapshot,
)
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user
from tests.core.promises.test_races import at_once
from tests.rewards.factories import account_of, convert, make_group, make_rule, total

pytestmark = pytest.mark.django_db
#: MariaDB commits before it makes a trigger.
tampering = pytest.mark.django_db(transaction=connection.vendor == "mysql")

START = datetime(2026, 3, 10, 12, tzinfo=UTC)


def found(**options):
    return list(audit.Audit(**options).differences())


def kinds(**options):
    return {each.kind for each in found(**options)}


@pytest.fixture
def unprotected(db):
    """Let the ledger be tampered with, and put the protection back."""
    protection.remove(connection)
    yield
    protection.install(connection)


@pytest.fixture
def silent():
    """Let nothing be posted, as if it had failed."""
    receivers.disconnect()
    yield
    receivers.connect()


def make_payout(partner, state="draft", **fields):
    """Pay out all that a partner has, as the ledger has it."""
    account = account_of(partner)
    entries = list(Entry.objects.filter(account=account))
    minor = sum(entry.minor for entry in entries)
    now = timezone.now()
    if state in ("paid", "failed", "returned"):
        fields["settled_on"] = now
    if state == "returned":
        fields["returned_on"] = now
    batch = PayoutBatch.objects.create(currency="EUR", until=now)
    payout = Payout.objects.create(batch=batch, account=account, minor=minor, state=state, **fields)
    gave_back = state in ("failed", "returned")
    PayoutEntry.objects.bulk_create(
        PayoutEntry(payout=payout, entry=entry, claimed=None if gave_back else entry.pk)
        for entry in entries
    )
    entry = Entry.objects.create(
        account=account,
        contra=ledger.site_account("payout", "EUR"),
        kind="payout",
        minor=-minor,
        key=f"payout:{payout.pk}",
        available_on=now,
    )
    if gave_back:
        ledger.reversal_of(entry, -minor, key=f"failed:{payout.pk}", now=now).save()
    return payout


def live(shared_by=3):
    """Let all sorts of things happen, none of them wrong."""
    partners = [make_partner() for _ in range(shared_by)]
    own, buyer = make_user(), make_user()
    partners[0].users.add(own)
    with freeze(START) as clock:
        everybody = make_rule(Decimal("3.3333"))
        make_rule(
            10,
            partner=partners[0],
            currency="EUR",
            tiers=[[2, "20"], [3, "30.5"]],
            cap_minor=2500,
            period_cap_minor=6000,
        )
        make_rule(flat_minor=501, currency="USD", group=make_group(partners[1]), times=2, months=1)
        make_rule(
            50, trigger="Order placed", minimum_minor=9000, currency="EUR", group=make_group()
        )
        recorded = []
        for turn in range(6):
            clock.tick(days=1)
            recorded.append(convert(*partners, user=buyer, minor=9999 + turn))
            recorded.append(convert(partners[turn % 3], minor=None if turn % 2 else 777))
            recorded.append(convert(partners[1], currency="JPY"))
        recorded.append(convert(partners[0], user=own))
        reverse_conversion(recorded[0])
        for minor in (3333, 3333, 3334):
            reverse_conversion(recorded[3], Money(minor, "EUR"))
        reverse_conversion(recorded[6], Money(1, "EUR"))
        new = rules.draft_replacement(everybody)
        new.percent = Decimal(5)
        new.save()
        rules.publish(new)
        clock.tick(days=1)
        convert(*partners)
        ledger.post(
            account=account_of(partners[2]), kind="credit", money=Money(500, "EUR"), key="x"
        )
        for partner in partners:
            ledger.take_snapshot(account_of(partner))
            clock.tick(days=31)
        make_payout(partners[0], "paid")
        make_payout(partners[2], "failed")
        clock.tick(days=31)
        for partner in partners:
            ledger.take_snapshot(account_of(partner))
    return partners


def test_where_nothing_is_wrong_nothing_is_found(shared):
    partners = live()
    run = audit.Audit()
    assert list(run.differences()) == []
    assert run.checked["conversions"] == Conversion.objects.count() == 20
    assert run.checked["payouts"] == 2
    assert run.checked["snapshots"] == Snapshot.objects.count() == 4
    mine = audit.Audit(partner=partners[1])
    assert list(mine.differences()) == []
    assert 0 < mine.checked["conversions"] < 20


# What is planted is found: one change each


def of_commission(**fields):
    return lambda: Commission.objects.filter(minor__gt=0).update(**fields)


def of_entry(kind="commission", **fields):
    return lambda: Entry.objects.filter(kind=kind).update(**fields)


def of_record(**fields):
    def plant():
        for each in Commission.objects.all():
            Commission.objects.filter(pk=each.pk).update(record={**each.record, **fields})

    return plant


def of_rule(**fields):
    return lambda: CommissionRule.objects.filter(published_on__isnull=False).update(**fields)


def of_entries_account():
    Entry.objects.filter(kind="commission").update(account=account_of(make_partner()))


def of_entries_contra():
    Entry.objects.filter(kind="commission").update(contra=ledger.site_account("credit", "EUR"))


def of_entries_currency():
    Entry.objects.filter(kind="commission").update(contra=ledger.site_account("commission", "USD"))


def of_a_second_entry():
    entry = Entry.objects.filter(kind="commission").first()
    entry.pk, entry.key, entry._state.adding = None, "again", True
    entry.save()


def of_a_gone_entry():
    entries = Entry.objects.filter(kind="commission", reversals=None)
    Entry.objects.filter(pk__in=list(entries.values_list("pk", flat=True)))._raw_delete("default")


def of_a_gone_reversal():
    Entry.objects.filter(kind="reversal", commission__isnull=False)._raw_delete("default")


def of_a_later_publication():
    of_rule(published_on=timezone.now() + timedelta(seconds=1))()


def of_a_gone_rule():
    CommissionRule.objects.filter(commissions=None).delete()


def of_a_gone_commission():
    Entry.objects.exclude(reverses=None)._raw_delete("default")
    Entry.objects.all()._raw_delete("default")
    Commission.objects.all()._raw_delete("default")


def of_a_rule_that_was_overlooked():
    make_rule(1, published_on=timezone.now() - timedelta(days=1))


def of_a_rejection_that_was_not_posted():
    Review.objects.create(
        entry=Entry.objects.filter(kind="commission").first(),
        reason="velocity",
        outcome="rejected",
        resolved_on=timezone.now(),
    )


def of_another_partners_commission():
    Commission.objects.update(partner=make_partner())


PLANTED = {
    "another amount": (of_commission(minor=F("minor") + 1), {"amount", "entry"}),
    "another rate": (of_record(rate="11"), {"amount"}),
    "other steps": (of_record(steps=["cap"]), {"amount"}),
    "another base": (of_commission(base_minor=F("base_minor") - 1), {"part"}),
    "another visitor's": (of_another_partners_commission, {"part"}),
    "other terms": (of_commission(terms={"rate": "20", "tiers": []}), {"rule", "amount"}),
    "terms of nothing": (of_commission(terms={}), {"rule", "amount"}),
    "another currency": (of_commission(currency="USD"), {"rule", "entry"}),
    "another lineage": (of_commission(lineage=None), {"rule"}),
    "another moment": (of_commission(converted_on=START), {"rule"}),
    "a record that cannot be read": (of_record(considered=5), {"rule"}),
    "no rule considered": (of_record(considered=[]), {"rule"}),
    "another reason": (of_record(why="own"), {"rule"}),
    "a rule that has changed": (of_rule(percent=11), {"rule"}),
    "a rule that was published later": (of_a_later_publication, {"rule"}),
    "a rule that had ended": (of_rule(valid_until=START), {"rule"}),
    "a rule of another trigger": (of_rule(trigger="x"), {"rule"}),
    "a rule that is gone": (of_a_gone_rule, {"rule"}),
    "a rule that was overlooked": (of_a_rule_that_was_overlooked, {"rule"}),
    "another rank": (of_rule(priority=F("id") * -1), {"rule"}),
    "another sum posted": (of_entry(minor=F("minor") + 1), {"entry"}),
    "posted to another": (of_entries_account, {"entry", "reversal"}),
    "posted from elsewhere": (of_entries_contra, {"entry", "reversal"}),
    "two currencies": (of_entries_currency, {"currency", "reversal"}),
    "posted twice": (of_a_second_entry, {"entry"}),
    "not posted": (of_a_gone_entry, {"entry"}),
    "available too early": (of_entry(available_on=START), {"entry"}),
    "available never": (of_entry(available_on=START + timedelta(days=36500)), {"entry"}),
    "not taken back": (of_a_gone_reversal, {"reversal"}),
    "too much taken back": (of_entry("reversal", minor=F("minor") - 1), {"reversal"}),
    "rejected, and not taken back": (of_a_rejection_that_was_not_posted, {"reversal"}),
    "no commission": (of_a_gone_commission, {"missing"}),
}


@tampering
@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_in_the_ledger_is_found(name, unprotected):
    plant, expected = PLANTED[name]
    partner = make_partner()
    make_rule(10, published_on=START)
    make_rule(5, minimum_minor=100_000, currency="EUR", priority=1, published_on=START)
    convert(partner)
    reverse_conversion(convert(partner), Money(2500, "EUR"))
    assert kinds() == {"protection"}
    plant()
    assert kinds() == expected | {"protection"}
    assert kinds(partner=partner) >= expected - {"missing", "part", "currency", "reversal"}
    with pytest.raises(CommandError, match="differ"):
        call_command("audit_ledger", stdout=io.StringIO())


def of_payout(**fields):
    return lambda: Payout.objects.update(**fields)


def of_claims(**fields):
    return lambda: PayoutEntry.objects.update(**fields)


def of_a_gone_claim():
    PayoutEntry.objects.first().delete()


def of_a_claim_of_anothers():
    partner = make_partner()
    convert(partner)
    item = PayoutEntry.objects.first()
    other = Entry.objects.get(account=account_of(partner))
    PayoutEntry.objects.filter(pk=item.pk).update(
        entry=other, claimed=None if item.claimed is None else other.pk
    )


def of_a_gone_posting():
    Entry.objects.filter(reverses__kind="payout")._raw_delete("default")
    Entry.objects.filter(kind="payout")._raw_delete("default")


def of_a_stray_posting():
    Entry.objects.filter(kind="payout").update(key="payout:5x")


def of_an_undone_posting():
    entry = Entry.objects.get(kind="payout")
    ledger.reversal_of(entry, entry.minor, key="undone", now=timezone.now()).save()


def of_claims_that_are_taken():
    PayoutEntry.objects.update(claimed=F("entry"))


PAYOUTS = {
    "another sum": ("paid", of_payout(minor=1)),
    "another sum posted": ("paid", of_entry("payout", minor=-1)),
    "another entry missing": ("paid", of_a_gone_claim),
    "another account's entry": ("paid", of_a_claim_of_anothers),
    "claims let go": ("sent", of_claims(claimed=None)),
    "nothing posted": ("draft", of_a_gone_posting),
    "posted for no payout": ("draft", of_a_stray_posting),
    "reversed, and not failed": ("paid", of_an_undone_posting),
    "failed, and not reversed": ("sent", of_payout(state="failed", settled_on=START)),
    "back, and not reversed": (
        "paid",
        of_payout(state="returned", settled_on=START, returned_on=START),
    ),
    "back, and claims kept": ("returned", of_claims_that_are_taken),
    "back, and posted nothing": ("returned", of_a_gone_posting),
    "failed, and claims kept": ("failed", of_claims_that_are_taken),
    "failed, and posted nothing": ("failed", of_a_gone_posting),
}


@tampering
@pytest.mark.parametrize("name", PAYOUTS)
def test_what_is_planted_in_payouts_is_found(name, unprotected):
    state, plant = PAYOUTS[name]
    partner = make_partner()
    make_rule(10)
    convert(partner)
    convert(partner)
    make_payout(partner, state)
    assert kinds() == {"protection"}
    plant()
    assert kinds() == {"protection", "payout"}


@pytest.mark.parametrize("name", ["total_minor", "available_minor"])
def test_a_snapshot_that_is_wrong_is_found(name):
    partner = make_partner()
    with freeze() as clock:
        make_rule(10)
        convert(partner)
        clock.tick(days=31)
        snapshot = ledger.take_snapshot(account_of(partner))
    assert (snapshot.total_minor, snapshot.available_minor) == (1000, 1000)
    assert found() == []
    Snapshot.objects.update(**{name: 999})
    assert kinds() == {"snapshot"}
    assert kinds(partner=partner) == {"snapshot"}
    assert kinds(partner=make_partner()) == set()


@tampering
def test_an_entry_that_is_reversed_between_other_accounts_is_found(unprotected):
    make_rule(10)
    reverse_conversion(convert())
    Entry.objects.filter(kind="reversal").update(account=account_of(make_partner()))
    assert kinds() == {"protection", "reversal"}


# What was never posted


def test_what_was_not_posted_is_posted_once(silent):
    partner = make_partner()
    make_rule(10)
    conversions = [convert(partner), convert(partner)]
    reverse_conversion(conversions[1], Money(2500, "EUR"))
    assert [each.kind for each in found()] == ["missing", "missing"]
    assert not Entry.objects.exists()
    posted = found(post_missing=True)
    assert [(each.kind, each.posted) for each in posted] == [("missing", True)] * 2
    assert total(partner) == 1750
    assert found(post_missing=True) == []


def test_a_reversal_that_was_not_posted_is_posted_once():
    partner = make_partner()
    make_rule(10)
    conversion = convert(partner)
    receivers.disconnect()
    try:
        reverse_conversion(conversion, Money(2500, "EUR"))
    finally:
        receivers.connect()
    assert kinds() == {"reversal"}
    assert [each.posted for each in found(post_missing=True)] == [True]
    assert total(partner) == 750
    assert found() == []


@pytest.mark.parametrize("minor", [None, 0, -500])
def test_of_what_was_not_taken_back_nothing_is(silent, minor):
    """A conversion of which no part can be taken back is looked at like any other."""
    partner = make_partner()
    make_rule(flat_minor=501, currency="EUR")
    conversion = convert(partner, minor=minor)
    assert [each.posted for each in found(post_missing=True)] == [True]
    assert (total(partner), found()) == (501, [])
    reverse_conversion(conversion)
    assert [each.posted for each in found(post_missing=True)] == [True]
    assert (total(partner), found()) == (0, [])


def test_it_is_posted_by_the_rules_of_its_time(silent):
    partner = make_partner()
    with freeze() as clock:
        rule = make_rule(10)
        conversion = convert(partner)
        rules.retire(rule)
        clock.tick(hours=1)
        make_rule(90)
        found(post_missing=True)
    assert conversion.commissions.get().rule == rule


def test_a_site_that_was_there_before_the_rewards_is_not_flooded(silent):
    with freeze(START) as clock:
        old = convert()
        assert found() == []
        clock.tick(days=1)
        make_rule(10)
        convert()
        [missing] = found()
        assert missing.subject != f"conversion {old.pk}"
        assert len(found(since=START)) == 2
        assert found(since=START + timedelta(days=2)) == []


def test_what_cannot_be_posted_keeps_nothing_else_back(silent, monkeypatch):
    make_rule(10)
    first, second = convert(), convert()
    earn = commissions.earn

    def failing(conversion, *args):
        if conversion.pk == first.pk:
            raise ValueError("no way")
        return earn(conversion, *args)

    monkeypatch.setattr(commissions, "earn", failing)
    one, other = found(post_missing=True)
    assert (one.posted, "no way" in one.text, other.posted) == (False, True, True)
    assert second.commissions.exists()


def post_at_once():
    """Let runs at the same time post what is missing; return errors, and what was posted."""
    partner = make_partner()
    make_rule(10)
    receivers.disconnect()
    try:
        conversion = convert(partner)
        reverse_conversion(conversion, Money(2500, "EUR"))
    finally:
        receivers.connect()

    def work():
        try:
            runs.post_missing(conversion)
        except DatabaseError as error:
            return type(error).__name__

    errors = [each for each in at_once(6, work) if each]
    return errors, Commission.objects.count(), total(partner)


@pytest.mark.django_db(transaction=True)
def test_runs_at_the_same_time_post_once():
    assert post_at_once() == ([], 1, 750)
    assert found() == []


@pytest.mark.django_db(transaction=True)
def test_teeth_a_look_before_the_posting_and_no_more(monkeypatch):
    def without_the_lock(conversion):
        stored = Conversion.objects.get(pk=conversion.pk)
        if not stored.commissions.exists():
            time.sleep(0.1)
            with transaction.atomic():
                commissions.earn(stored)
                commissions.take_back(stored)

    monkeypatch.setattr(runs, "post_missing", without_the_lock)
    assert post_at_once() != ([], 1, 750)


@pytest.mark.django_db(transaction=True)
def test_what_happens_during_an_audit_is_no_difference(monkeypatch):
    """Refunds are posted between what an audit reads of a conversion and what of its entries."""
    partner = make_partner()
    make_rule(10)
    for _ in range(3):
        convert(partner)
    left = list(Conversion.objects.all())
    book = earnings.Book.__init__

    def meanwhile(self, conversions):
        if left:
            at_once(1, partial(reverse_conversion, left.pop()))
        book(self, conversions)

    monkeypatch.setattr(earnings.Book, "__init__", meanwhile)
    monkeypatch.setattr(runs, "problems_alone", still(runs.problems_alone, left))
    assert found() == []
    # Teeth: where what looks wrong is taken for wrong at once.
    left.extend([convert(partner)])
    monkeypatch.setattr(runs, "problems_alone", lambda each: [Problem("reversal", "as it looked")])
    assert kinds() == {"reversal"}


def still(look, left):
    def alone(conversion):
        # Nobody can take it back while it is locked.
        left.clear()
        return look(conversion)

    return alone


# The command


def run(*arguments):
    said = io.StringIO()
    call_command("audit_ledger", *arguments, stdout=said)
    return said.getvalue()


def test_the_command_says_what_it_has_looked_at(shared):
    partners = live()
    assert run().splitlines() == [
        "Looked at 20 conversions, 2 payout entries, 2 payouts, 4 snapshots.",
        "Nothing differs.",
    ]
    assert "Nothing differs." in run("--partner", partners[0].uid)


def test_the_command_lists_what_differs_and_fails(silent):
    make_rule(10)
    conversion = convert()
    said = io.StringIO()
    with pytest.raises(CommandError, match="1 differs") as caught:
        call_command("audit_ledger", stdout=said)
    assert caught.value.returncode == 1
    assert f"missing: conversion {conversion.pk}: " in said.getvalue()
    told = run("--post-missing")
    assert "(posted now)" in told
    assert "1 were posted." in told
    assert "Nothing differs." in run()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--partner", "nobody"], "partner"), (["--since", "yesterday"], "--since")],
)
def test_the_command_refuses_what_it_cannot_use(arguments, named):
    with pytest.raises(CommandError, match=named):
        run(*arguments)


def test_it_costs_the_same_number_of_queries_however_many_conversions(
    django_assert_max_num_queries, django_assert_num_queries
):
    partner = make_partner()
    make_rule(10)

    def queries():
        with django_assert_max_num_queries(100) as context:
            assert found() == []
        return len(context)

    convert(partner)
    few = queries()
    for _ in range(20):
        convert(partner)
    with django_assert_num_queries(few):
        assert found() == []


def test_an_entry_that_is_older_than_its_number_says_is_in_the_next_snapshot():
    account = ledger.account_of("member:1", "EUR")
    site = ledger.site_account("credit", "EUR")
    with freeze(START) as clock:
        for key, seconds in (("a", -10), ("b", 2), ("c", -2)):
            when = timezone.now() + timedelta(seconds=seconds)
            Entry.objects.create(
                account=account,
                contra=site,
                kind="credit",
                minor=7,
                key=key,
                available_on=when,
                created_on=when,
            )
        clock.tick(hours=1)
        assert ledger.take_snapshot(account).total_minor == 7
        assert list(audit.Audit().differences()) == []
        assert ledger.balance(account).total == 21


def test_what_is_posted_late_and_was_taken_back_is_no_case_for_anybody(settings):
    settings.AFFILIATE_APPROVAL = True
    partner = make_partner()
    make_rule()
    receivers.disconnect()
    try:
        reverse_conversion(convert(partner))
    finally:
        receivers.connect()
    assert list(audit.Audit(post_missing=True).differences())
    assert [review.outcome for review in Review.objects.all()] == ["moot"]
