"""What is posted, once, and what accounts come to: now, at any past moment, and by snapshots."""

import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections, models, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affiliations.exceptions import InvalidMoney, InvalidTransition
from affiliations.models import Partner
from affiliations.money import Money
from affiliations.rewards import ledger, payouts, querysets, reviews
from affiliations.rewards.exceptions import InsufficientBalance
from affiliations.rewards.ledger import reversal_of
from affiliations.rewards.management.commands import take_snapshots
from affiliations.rewards.models import (
    Account,
    Entry,
    Payout,
    PayoutBatch,
    PayoutEntry,
    Review,
    Snapshot,
)
from affiliations.rewards.signals import entry_posted
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner
from tests.core.promises.test_races import at_once
from tests.rewards.factories import account_of, convert, make_rule, numbers

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
in_one_transaction = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="lets no two transactions write at once"
)


@pytest.fixture
def account():
    return ledger.account_of("member:1", "EUR")


def post(account, minor, **options):
    options = {"kind": "credit", "key": f"k{next(numbers)}", **options}
    return ledger.post(account, Money(minor, account.currency), **options)


# What is posted


def test_a_credit_is_posted_and_available_at_once(account):
    heard = []

    def hear(*, entry, **kwargs):
        heard.append(entry)

    entry_posted.connect(hear)
    try:
        entry = post(account, 500, key="welcome", memo="Welcome!" * 100)
    finally:
        entry_posted.disconnect(hear)
    stored = Entry.objects.get()
    assert heard == [entry] == [stored]
    assert (stored.account, stored.minor, stored.kind) == (account, 500, "credit")
    assert (stored.contra.holder, stored.contra.currency) == ("site:credits", "EUR")
    assert stored.memo == ("Welcome!" * 100)[:500]
    assert stored.available_on == stored.created_on
    assert ledger.balance(account) == (500, 500, "EUR")
    assert ledger.balance(stored.contra) == (-500, -500, "EUR")
    assert_ledger_balanced()


@pytest.mark.parametrize("memo", ["a\0b", "a\ud800b", "a" * 10**6])
def test_a_memo_is_made_to_fit(account, memo):
    entry = post(account, 500, memo=memo)
    entry.refresh_from_db()
    assert entry.memo in ("ab", "a?b", "a" * 500)


# What is promised, and taken back


def test_what_is_promised_is_held_until_it_is_taken_back(account):
    with freeze() as clock:
        entry = post(account, 500, promised=True)
        assert entry.available_on is None
        assert ledger.balance(account) == (500, 0, "EUR")
        clock.tick(days=20_000)
        assert ledger.balance(account) == (500, 0, "EUR")
        assert ledger.take_snapshot(account)
        with pytest.raises(InsufficientBalance):
            spend(account, 1)
        assert payouts.make_payouts(currency="EUR") is None
        back = ledger.reverse(entry, memo="It is yours now")
        assert (back.minor, back.reverses, back.available_on) == (-500, entry, None)
        assert back.memo == "It is yours now"
        post(account, 500)
        assert ledger.balance(account) == (500, 500, "EUR")
        assert spend(account, 500)
        assert_ledger_balanced()


def test_what_is_taken_back_twice_is_taken_back_once(account):
    heard = []

    def hear(*, entry, **kwargs):
        heard.append(entry)

    entry = post(account, 500)
    entry_posted.connect(hear)
    try:
        first, again = ledger.reverse(entry), ledger.reverse(entry, memo="again")
    finally:
        entry_posted.disconnect(hear)
    assert heard == [first] == [again]
    assert ledger.balance(account) == (0, 0, "EUR")


def test_a_credit_that_is_not_let_go_yet_is_taken_back_there(account):
    with freeze() as clock:
        entry = post(account, 500, available_on=clock.now + timedelta(days=1))
        assert ledger.reverse(entry).available_on == entry.available_on
        assert ledger.balance(account) == (0, 0, "EUR")


def test_what_a_commission_was_is_not_taken_back_by_itself():
    make_rule(10)
    entry = convert().commissions.get().entries.get()
    with pytest.raises(ValueError, match=r"^entry: a commission is not"):
        ledger.reverse(entry)
    with pytest.raises(ValueError, match=r"^entry: a reversal is not"):
        ledger.reverse(ledger.reverse(post(account_of(make_partner()), 5)))


# What is spent


def spend(account, minor, **options):
    options = {"key": f"s{next(numbers)}", **options}
    return ledger.spend(account, Money(minor, account.currency), **options)


def test_what_is_available_can_be_spent_and_not_a_cent_more(account):
    with freeze() as clock:
        post(account, 500)
        post(account, 300, available_on=clock.now + timedelta(days=1))
        for _ in range(2):
            assert spend(account, 400, key="order-1").minor == -400
        assert ledger.balance(account) == (400, 100, "EUR")
        with pytest.raises(InsufficientBalance, match=r"^money: only 1\.00 EUR are available"):
            spend(account, 101)
        assert spend(account, 100).kind == "credit"
        with pytest.raises(InsufficientBalance, match=r"only 0\.00 EUR"):
            spend(account, 1)
        clock.tick(days=1)
        assert spend(account, 300)
        assert ledger.balance(account) == (0, 0, "EUR")
        assert_ledger_balanced()


@pytest.mark.parametrize("money", [Money(0, "EUR"), Money(-5, "EUR"), Money(5, "USD")])
def test_what_cannot_be_spent(account, money):
    post(account, 500)
    why = "above zero" if money.minor <= 0 else "the account is in EUR"
    with pytest.raises(InvalidMoney, match=rf"^money: .*{why}"):
        ledger.spend(account, money, key="k")
    assert Entry.objects.count() == 1


def test_another_sum_by_the_same_key_is_not_spent(account):
    post(account, 500)
    spend(account, 100, key="k")
    with pytest.raises(InvalidTransition, match=r"^key: "):
        spend(account, 200, key="k")
    assert ledger.balance(account).total == 400


@pytest.mark.parametrize(
    "holder",
    [
        *("", "member", "member:", ":7", "Member:7", "member:7 ", "member:\n", "a\0:7"),
        "member:" + "7" * 61,
        *("partner:5", "site:credits", "site:mine", "Site:credits"),
        *(None, 7, b"member:7", ["member:7"]),
    ],
)
def test_a_holder_has_a_name_of_its_own(holder):
    with pytest.raises(ValueError, match=r"^holder: "):
        ledger.account_of(holder, "EUR")
    assert not Account.objects.exists()


def test_an_adjustment_may_be_held_and_may_be_below_zero(account):
    with freeze() as clock:
        post(account, 700, kind="adjustment", available_on=clock.now + timedelta(days=3))
        post(account, -200, kind="adjustment", available_on=clock.now - timedelta(days=3))
        found = ledger.balance(account)
        assert (found, found.held) == ((500, -200, "EUR"), 700)
        clock.tick(days=3)
        assert ledger.balance(account) == (500, 500, "EUR")


def test_the_same_again_is_posted_once(account):
    first = post(account, 500, key="welcome")
    assert post(account, 500, key="welcome", memo="again") == first
    assert Entry.objects.count() == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda account: post(account, 501, key="k"),
        lambda account: post(account, -500, key="k"),
        lambda account: post(account, 500, key="k", kind="adjustment"),
        lambda account: post(ledger.account_of("member:2", "EUR"), 500, key="k"),
        lambda account: post(ledger.account_of("member:1", "USD"), 500, key="k"),
    ],
)
def test_something_else_by_the_same_key_is_refused(account, other):
    post(account, 500, key="k")
    with pytest.raises(InvalidTransition, match="key: 'k'"):
        other(account)
    assert list(Entry.objects.values_list("minor", "account")) == [(500, account.pk)]


def test_keys_differ_in_every_letter_and_are_none_of_the_ledgers_own(account):
    make_rule()
    conversion = convert(partner := make_partner())
    own = Entry.objects.get()
    for key in ("a", "A", "a.", own.key, f"commission:{conversion.pk}:{partner.pk}"):
        post(account, 1, key=key)
    assert ledger.balance(account).total == 4  # the last two are one
    assert own.key == f"commission:{conversion.pk}:{partner.pk}"


def with_money(make):
    return lambda account: ledger.post(account, make(), kind="credit", key="k")


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("money: the account is in EUR", with_money(lambda: Money(1, "USD"))),
        ("money: must not be zero", with_money(lambda: Money(0, "EUR"))),
        ("minor:", with_money(lambda: Money(True, "EUR"))),
        ("minor:", with_money(lambda: Money(1.5, "EUR"))),
        ("minor:", with_money(lambda: Money(10**40, "EUR"))),
        ("minor:", with_money(lambda: Money(2**63, "EUR"))),
        ("amount:", with_money(lambda: Money.of(Decimal("NaN"), "EUR"))),
        ("amount:", with_money(lambda: Money.of("-Infinity", "EUR"))),
        ("amount:", with_money(lambda: Money.of("9" * 40, "EUR"))),
        ("amount:", with_money(lambda: Money.of("0.001", "EUR"))),
        ("currency:", with_money(lambda: Money(1, "eur"))),
        ("kind:", lambda account: post(account, 1, kind="commission")),
        ("kind:", lambda account: post(account, 1, kind="payout")),
        ("kind:", lambda account: post(account, 1, kind="")),
        ("key:", lambda account: post(account, 1, key="")),
        ("key:", lambda account: post(account, 1, key="k" * 81)),
        ("key:", lambda account: post(account, 1, key="kä")),
        ("key:", lambda account: post(account, 1, key="k\n")),
        ("account:", lambda account: post(ledger.site_account("credit", "EUR"), 1)),
        ("account:", lambda account: post(ledger.site_account("payout", "EUR"), 1)),
        (
            "account:",
            lambda account: ledger.post(account.pk, Money(1, "EUR"), kind="credit", key="k"),
        ),
        *(("money: must be Money", with_money(lambda x=x: x)) for x in (None, 5, "5", Decimal(5))),
        *(("key:", lambda account, x=x: post(account, 1, key=x)) for x in (None, 5, b"k", ["k"])),
        *(("memo:", lambda account, x=x: post(account, 1, memo=x)) for x in (None, 5, b"m")),
        *(("kind:", lambda account, x=x: post(account, 1, kind=x)) for x in (None, 5, [])),
        ("available_on:", lambda account: post(account, 1, available_on="tomorrow")),
        ("available_on:", lambda account: post(account, 1, available_on=date(2026, 1, 1))),
        (
            "available_on:",
            lambda account: post(account, 1, available_on=START.replace(tzinfo=None)),
        ),
        ("money: must be Money", lambda account: ledger.spend(account, 5, key="k")),
        ("account:", lambda account: ledger.spend(None, Money(1, "EUR"), key="k")),
        ("key:", lambda account: ledger.spend(account, Money(1, "EUR"), key=None)),
        ("memo:", lambda account: ledger.spend(account, Money(1, "EUR"), key="k", memo=None)),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_posted(account, field, call):
    with pytest.raises(ValueError, match=f"^{field}"):
        call(account)
    assert not Entry.objects.exists()


@pytest.mark.parametrize("currency", ["", "eur", "XXX", "EURO", None, 5, []])
def test_there_is_no_account_in_what_is_no_currency(currency):
    with pytest.raises(InvalidMoney, match="currency"):
        ledger.account_of("member:1", currency)
    assert not Account.objects.exists()


def test_a_receiver_that_fails_undoes_its_own_work_alone(account):
    def fail(**kwargs):
        make_partner(name="undone")
        raise LookupError

    entry_posted.connect(fail)
    try:
        post(account, 1)
    finally:
        entry_posted.disconnect(fail)
    assert ledger.balance(account).total == 1
    assert not Partner.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_account_that_many_open_at_once_is_one():
    partner = make_partner()
    found = at_once(8, lambda: ledger.account_of(partner, "EUR"))
    assert {each.pk for each in found} == {Account.objects.get().pk}
    assert found[0].partner == partner


@pytest.mark.django_db(transaction=True)
def test_what_many_post_at_once_by_one_key_is_posted_once():
    account = ledger.account_of("member:1", "EUR")
    ledger.site_account("credit", "EUR")
    found = at_once(8, lambda: post(account, 500, key="k").pk)
    assert set(found) == {Entry.objects.get().pk}


# What accounts come to


def by_hand(account, moment, entries, reviews):
    """Return what an account comes to, without SQL that compares or adds."""
    total = available = 0
    for entry in entries:
        if entry.created_on > moment:
            continue
        total += entry.minor
        held = any(
            review.entry_id == (entry.reverses_id or entry.pk)
            and review.opened_on <= moment
            and not (review.resolved_on and review.resolved_on <= moment)
            for review in reviews
        )
        if entry.available_on <= moment and not held:
            available += entry.minor
    return total, available, account.currency


SUMS = st.one_of(st.integers(-500, 500), st.integers(-(2**57), 2**57)).filter(bool)
MINUTES = st.integers(0, 59)
STEPS = st.one_of(
    # An entry, how long it is held, and for how long it was under way.
    st.tuples(st.just("post"), SUMS, st.sampled_from([0, 30, 600, 5000]), MINUTES),
    st.tuples(st.just("reverse"), st.integers(0, 50)),
    st.tuples(st.just("review"), st.integers(0, 50)),
    st.tuples(st.just("decide"), st.integers(0, 50)),
    st.tuples(st.just("pass"), st.integers(1, 5000)),
    st.tuples(st.just("snapshot"), st.sampled_from([0, 30, 61, 120])),
)


class Story:
    """What happens to an account, step by step."""

    def __init__(self, account, clock):
        self.account, self.clock = account, clock
        self.contra = ledger.site_account("credit", account.currency)
        self.seen = {clock.now}

    def run(self, steps):
        for what, *details in steps:
            getattr(self, what.replace("pass", "wait"))(*details)
            self.seen.add(self.clock.now)
            self.clock.tick(seconds=1)

    def post(self, minor, held, under_way):
        now = self.clock.now - timedelta(minutes=under_way)
        self.seen.add(now)
        Entry.objects.create(
            account=self.account,
            contra=self.contra,
            kind="credit",
            minor=minor,
            key=f"k{next(numbers)}",
            created_on=now,
            available_on=now + timedelta(minutes=held),
        )

    def pick(self, rows, number):
        rows = list(rows.order_by("pk"))
        return rows[number % len(rows)] if rows else None

    def reverse(self, number):
        entry = self.pick(Entry.objects.filter(reverses=None, account=self.account), number)
        if entry is not None:
            key = f"k{next(numbers)}"
            reversal_of(entry, entry.minor, key=key, now=self.clock.now).save()

    def review(self, number):
        entry = self.pick(Entry.objects.filter(reverses=None, reviews=None), number)
        if entry is not None:
            Review.objects.create(entry=entry, reason="velocity")

    def decide(self, number):
        review = self.pick(Review.objects.filter(resolved_on=None), number)
        if review is not None:
            review.outcome, review.resolved_on = "released", self.clock.now
            review.save()

    def wait(self, minutes):
        self.clock.tick(minutes=minutes)

    def snapshot(self, minutes):
        self.clock.tick(minutes=minutes)
        ledger.take_snapshot(self.account)

    def check(self):
        moments = self.seen | {each - timedelta(microseconds=1) for each in self.seen}
        moments |= set(Entry.objects.values_list("available_on", flat=True))
        moments |= set(Snapshot.objects.values_list("taken_on", flat=True))
        rows = list(Entry.objects.all()), list(Review.objects.all())
        for moment in moments:
            expected = by_hand(self.account, moment, *rows)
            assert ledger.balance(self.account, as_of=moment) == expected
        assert ledger.balance(self.account) == by_hand(self.account, self.clock.now, *rows)
        idle = ledger.account_of("member:2", "EUR")
        assert ledger.balances([self.account, idle, self.contra]) == {
            self.account.pk: ledger.balance(self.account),
            idle.pk: (0, 0, "EUR"),
        }
        assert ledger.balance(self.contra).total == -ledger.balance(self.account).total


@contextmanager
def undone():
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def tell(examples, **options):
    """Live through random stories; return in how many there was a snapshot."""
    snapshots = []

    @hypothesis_settings(
        max_examples=examples, suppress_health_check=list(HealthCheck), deadline=None, **options
    )
    @given(st.lists(STEPS, min_size=5, max_size=25))
    def live(steps):
        with undone(), freeze(START) as clock:
            story = Story(ledger.account_of("member:1", "EUR"), clock)
            story.run(steps)
            story.check()
            snapshots.append(Snapshot.objects.count())

    live()
    return sum(map(bool, snapshots))


def test_a_balance_is_the_sum_of_entries_at_any_moment():
    assert tell(40) > 0


def blind_to_new_reviews(entries, snapshot, roots):
    return entries.filter(
        models.Q(pk__gt=snapshot.last_entry) | models.Q(available_on__gt=snapshot.taken_on)
    )


def reviewed_at_any_time(as_of=None):
    """As where a review holds an entry before it was opened."""
    moment = as_of or timezone.now()
    return models.Q(~querysets._holding(querysets.open_at(moment)), available_on__lte=moment)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_changed", blind_to_new_reviews),
        ("available", reviewed_at_any_time),
    ],
)
def test_teeth_the_same_stories_find_a_wrong_sum(monkeypatch, name, broken):
    monkeypatch.setattr(ledger, name, broken)
    with pytest.raises((AssertionError, ExceptionGroup)):
        tell(300, derandomize=True, phases=[Phase.generate], database=None)


def test_a_sum_is_exact_beyond_what_any_amount_may_be(account):
    with freeze(START) as clock:
        for minor in (2**63 - 1, 2**62, 1):
            post(account, minor)
        assert ledger.balance(account).total == 2**63 + 2**62
        clock.tick(hours=2)
        with pytest.raises(InvalidMoney, match="minor"):
            ledger.take_snapshot(account)
        assert not Snapshot.objects.exists()


def test_what_it_costs(account, django_assert_num_queries):
    with freeze(START) as clock:
        entry = post(account, 1)
        with django_assert_num_queries(1):
            ledger.balance(entry.contra)
        with django_assert_num_queries(2):
            ledger.balance(account)
        clock.tick(hours=2)
        assert ledger.take_snapshot(account)
        post(account, 1)
        with django_assert_num_queries(3):
            assert ledger.balance(account).total == 2


# Snapshots


def test_a_snapshot_is_of_an_hour_ago_and_taken_once(account):
    with freeze(START) as clock:
        assert ledger.take_snapshot(account) is None
        post(account, 100)
        assert ledger.take_snapshot(account) is None
        clock.tick(hours=1)
        post(account, 10, available_on=START + timedelta(days=1))
        found = ledger.take_snapshot(account)
        assert (found.total_minor, found.available_minor) == (100, 100)
        assert found.taken_on == START
        assert ledger.take_snapshot(account) is None
        clock.tick(hours=1)
        found = ledger.take_snapshot(account)
        assert (found.total_minor, found.available_minor) == (110, 100)
        assert ledger.balance(account, as_of=START - timedelta(seconds=1)).total == 0
        clock.tick(days=1)
        assert ledger.balance(account) == (110, 110, "EUR")
        assert_ledger_balanced()


def test_what_was_let_go_held_or_posted_since_a_snapshot_counts(account):
    with freeze(START) as clock:
        post(account, 100)
        odd = post(account, 20)
        post(account, 3000, available_on=START + timedelta(hours=3))
        clock.tick(hours=1, seconds=1)
        found = ledger.take_snapshot(account)
        assert (found.total_minor, found.available_minor) == (3120, 120)
        review = Review.objects.create(entry=odd, reason="odd")
        post(account, 50_000)
        assert ledger.balance(account) == (53_120, 50_100, "EUR")
        clock.tick(hours=3)
        assert ledger.balance(account) == (53_120, 53_100, "EUR")
        reviews.release(review, by=None)
        assert ledger.balance(account) == (53_120, 53_120, "EUR")
        assert ledger.balance(account, as_of=START + timedelta(hours=2)) == (53_120, 50_100, "EUR")


def test_what_the_site_has_spent_is_known_at_any_moment(account):
    with freeze(START) as clock:
        post(account, 100)
        clock.tick(hours=1)
        post(account, 10)
        site = ledger.site_account("credit", "EUR")
        assert ledger.balance(site) == (-110, -110, "EUR")
        assert ledger.balance(site, as_of=START) == (-100, -100, "EUR")


def test_of_another_account_a_snapshot_tells_nothing(account):
    other = ledger.account_of("member:2", "EUR")
    with freeze(START) as clock:
        post(account, 100)
        post(other, 7)
        clock.tick(hours=2)
        ledger.take_snapshot(other)
        assert ledger.balance(account) == (100, 100, "EUR")
        assert ledger.take_snapshot(account).total_minor == 100


def test_a_balance_does_not_read_what_a_snapshot_holds(account):
    """A wrong sum shows: so it is the snapshot that was taken for it."""
    with freeze(START) as clock:
        post(account, 100)
        clock.tick(hours=2)
        ledger.take_snapshot(account)
        Snapshot.objects.update(total_minor=1)
        assert ledger.balance(account).total == 1
        with pytest.raises(AssertionError, match="snapshot"):
            assert_ledger_balanced()


def numbered_late(account):
    """Let an entry have its number before another, and be inserted after a snapshot."""
    with freeze(START) as clock:
        post(account, 100)
        clock.tick(minutes=30)
        later = post(account, 1)
        reserved = later.pk + 10
        early = Entry(
            pk=reserved,
            account=account,
            contra=later.contra,
            kind="credit",
            minor=10,
            key="late",
            available_on=clock.now,
            created_on=clock.now,
        )
        clock.tick(seconds=1)
        Entry.objects.create(
            pk=reserved + 1,
            account=account,
            contra=later.contra,
            kind="credit",
            minor=1000,
            key="faster",
            available_on=clock.now,
            created_on=clock.now,
        )
        clock.tick(minutes=40)
        ledger.take_snapshot(account)
        early.save(force_insert=True)
        clock.tick(hours=2)
        ledger.take_snapshot(account)
        return ledger.balance(account).total


def test_whoever_is_late_with_a_number_is_counted(account):
    assert numbered_late(account) == 1111
    assert Snapshot.objects.count() == 2


def test_teeth_a_snapshot_without_the_hour(account, monkeypatch):
    monkeypatch.setattr(ledger, "LATE", timedelta(0))
    assert numbered_late(account) != 1111


def numbered_out_of_order(account):
    """Let an entry be younger than another with a higher number, and a snapshot be between them."""
    with freeze(START) as clock:
        first = post(account, 100)
        clock.tick(minutes=10)
        post(account, 10)
        Entry.objects.create(
            account=account,
            contra=first.contra,
            kind="credit",
            minor=1000,
            key="slower",
            available_on=START,
            created_on=clock.now - timedelta(minutes=5),
        )
        clock.tick(minutes=57)
        ledger.take_snapshot(account)
        clock.tick(hours=5)
        return ledger.balance(account).total


def test_numbers_and_moments_need_not_be_in_the_same_order(account):
    assert numbered_out_of_order(account) == 1110
    assert Snapshot.objects.get().total_minor == 100


def test_teeth_a_snapshot_that_takes_all_up_to_the_last_number_for_counted(account, monkeypatch):
    def take_snapshot(account):
        taken_on = timezone.now() - ledger.LATE
        old = Entry.objects.filter(account=account, created_on__lte=taken_on)
        found = ledger.balance(account, as_of=taken_on)
        Snapshot.objects.create(
            account=account,
            taken_on=taken_on,
            last_entry=old.latest("pk").pk,
            total_minor=found.total,
            available_minor=found.available,
        )

    monkeypatch.setattr(ledger, "take_snapshot", take_snapshot)
    assert numbered_out_of_order(account) == 1100


def committed_late():
    """Let an entry be under way for hours while a snapshot is taken; return the balance."""
    account = ledger.account_of("member:1", "EUR")
    inserted, commit, locking = (threading.Event() for _ in range(3))

    def under_way():
        try:
            with transaction.atomic():
                post(account, 10)
                inserted.set()
                commit.wait(60)
        finally:
            connections.close_all()

    def snapshot():
        try:
            locking.set()
            ledger.take_snapshot(account)
        finally:
            connections.close_all()

    with freeze(START) as clock:
        post(account, 100)
        threads = [threading.Thread(target=each) for each in (under_way, snapshot)]
        threads[0].start()
        assert inserted.wait(60)
        post(account, 1000)
        clock.tick(hours=2)
        threads[1].start()
        assert locking.wait(60)
        # Time enough for one that does not wait; the other one waits for as long as it takes.
        threads[1].join(2)
        commit.set()
        for thread in threads:
            thread.join(60)
        assert Snapshot.objects.count() == 1
        return ledger.balance(account).total


@in_one_transaction
@pytest.mark.django_db(transaction=True)
def test_a_snapshot_waits_for_whoever_posts_for_hours():
    assert committed_late() == 1110
    assert Snapshot.objects.get().total_minor == 1110


@in_one_transaction
@pytest.mark.django_db(transaction=True)
def test_teeth_a_snapshot_without_the_lock(monkeypatch):
    monkeypatch.setattr(models.QuerySet, "select_for_update", lambda rows, **options: rows)
    assert committed_late() == 1100


@pytest.mark.skipif(connection.vendor != "postgresql", reason="others lock by the foreign key")
@pytest.mark.django_db(transaction=True)
def test_teeth_an_entry_without_a_lock_on_its_account():
    table = "affiliations_rewards_entry"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_held")
    try:
        assert committed_late() == 1100
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_held")


def test_the_command_takes_those_of_busy_accounts(account):
    def run(**options):
        out = StringIO()
        call_command("take_snapshots", stdout=out, **options)
        return out.getvalue().strip()

    quiet = ledger.account_of("member:2", "EUR")
    with freeze(START) as clock:
        for _ in range(3):
            post(account, 5)
        post(quiet, 5)
        clock.tick(hours=2)
        assert run() == "0 snapshots taken."
        assert run(entries=3) == "1 snapshots taken."
        assert run(entries=3) == "0 snapshots taken."
        assert Snapshot.objects.get().account == account
        for _ in range(2):
            post(account, 5)
        clock.tick(hours=2)
        assert run(entries=3) == "0 snapshots taken."
        assert run(entries=2) == "1 snapshots taken."
        assert run(entries=1) == "1 snapshots taken."
        assert ledger.balance(account).total == 25
        assert_ledger_balanced()
    assert take_snapshots.ENOUGH == 1000


def test_the_command_names_an_account_that_is_owed_too_much_and_goes_on(account):
    rich, told, warned = ledger.account_of("member:2", "EUR"), StringIO(), StringIO()
    third = ledger.account_of("member:3", "EUR")
    with freeze(START) as clock:
        for minor in (2**63 - 1, 2**62):
            post(rich, minor)
        for each in (account, third):
            post(each, 5)
        clock.tick(hours=2)
        with pytest.raises(CommandError, match=r"^1 could not be taken\.$"):
            call_command("take_snapshots", entries=1, stdout=told, stderr=warned)
    assert told.getvalue() == "2 snapshots taken.\n"
    assert warned.getvalue().startswith(f"account {rich.pk}, member:2 (EUR): minor: ")
    assert {each.account for each in Snapshot.objects.all()} == {account, third}


# What users' tests assert


def inserted(entry, **changes):
    """Insert another entry like this one, but for what is wrong with it."""
    row = {field.attname: getattr(entry, field.attname) for field in Entry._meta.concrete_fields}
    row |= {"id": None, "key": f"k{next(numbers)}", **changes}
    return Entry.objects.create(**row)


WRONG = [
    (inserted, "commission .* posted is 1000 .*, 1000"),
    (
        lambda entry: inserted(entry, kind="reversal", reverses_id=entry.pk, minor=-1001),
        "-1001 of it is reversed",
    ),
    (lambda entry: inserted(entry, kind="reversal", reverses_id=entry.pk), "reverses 1000"),
    (
        lambda entry: inserted(
            entry,
            kind="reversal",
            reverses_id=entry.pk,
            minor=-1,
            account_id=ledger.account_of("member:1", "EUR").pk,
        ),
        "between other accounts",
    ),
    (
        lambda entry: inserted(
            entry,
            kind="credit",
            commission_id=None,
            contra_id=ledger.site_account("credit", "USD").pk,
        ),
        "goes from .*USD.*\n?.*currency EUR: all accounts sum to 1000",
    ),
    (
        lambda entry: inserted(
            entry, kind="credit", account_id=account_of(make_partner(), "USD").pk
        ),
        "of a commission in 'EUR'",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_it_names_what_is_wrong(wrong, message):
    make_rule()
    conversion = convert(make_partner())
    assert_ledger_balanced()
    wrong(Entry.objects.get())
    with pytest.raises(AssertionError, match=f"(?s)the ledger is wrong.*{message}"):
        assert_ledger_balanced()
    assert conversion


def test_a_commission_that_was_not_posted_is_named(monkeypatch):
    make_rule()
    monkeypatch.setattr("affiliations.rewards.commissions._post", lambda *args: None)
    convert(make_partner())
    with pytest.raises(AssertionError, match=r"commission \d+: of 1000, but posted is nothing"):
        assert_ledger_balanced()


@pytest.mark.parametrize(
    ("minor", "state", "message"),
    [
        (1000, "draft", ""),
        (999, "draft", "of 999, but its entries sum to 1000"),
        (1000, "failed", "has failed, and keeps 1 entries"),
        (1000, "returned", "has returned, and keeps 1 entries"),
    ],
)
def test_a_payout_is_the_sum_of_its_entries(minor, state, message):
    make_rule()
    convert(make_partner())
    entry = Entry.objects.get()
    now = timezone.now()
    payout = Payout.objects.create(
        batch=PayoutBatch.objects.create(currency="EUR", until=now),
        account=entry.account,
        minor=minor,
        state=state,
        settled_on=None if state == "draft" else now,
        returned_on=now if state == "returned" else None,
    )
    PayoutEntry.objects.create(payout=payout, entry=entry, claimed=entry.pk)
    if not message:
        assert_ledger_balanced()
        return
    with pytest.raises(AssertionError, match=message):
        assert_ledger_balanced()


def test_what_is_right_passes():
    make_rule()
    partner = make_partner()
    for minor in (999, None, 0, 5):
        convert(partner, minor=minor)
    reverse_conversion(convert(partner))
    reverse_conversion(convert(partner), Money(5, "EUR"))
    post(account_of(partner), -3)
    assert_ledger_balanced()


def test_more_accounts_than_one_query_sums(django_assert_num_queries):
    now = timezone.now()
    accounts = Account.objects.bulk_create(
        Account(holder=f"member:{number}", currency="EUR") for number in range(501)
    )
    accounts = list(Account.objects.filter(pk__in=[account.pk for account in accounts]))
    sums = {"last_entry": 0, "available_minor": 0}
    Snapshot.objects.bulk_create(
        Snapshot(account=account, taken_on=now, total_minor=account.pk, **sums)
        for account in accounts
    )
    with django_assert_num_queries(2 + 3):
        found = ledger.balances(accounts)
    assert {pk: each.total for pk, each in found.items()} == {each.pk: each.pk for each in accounts}
