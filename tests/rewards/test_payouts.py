"""What is paid out, of which entries, and what becomes of it."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import count

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from affiliations.exceptions import InvalidMoney, InvalidTransition
from affiliations.money import Money
from affiliations.rewards import ledger, payouts, settling
from affiliations.rewards.audit import Audit
from affiliations.rewards.ledger import reversal_of
from affiliations.rewards.models import (
    Account,
    Entry,
    Payout,
    PayoutBatch,
    PayoutDestination,
    PayoutEntry,
    Review,
)
from affiliations.rewards.payouts import due, make_payouts
from affiliations.rewards.signals import entry_posted, payout_settled
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner
from tests.core.promises.test_races import at_once
from tests.rewards.factories import account_of, convert, make_rule, pay_to

pytestmark = pytest.mark.django_db

numbers = count(1)
START = datetime(2026, 3, 10, tzinfo=UTC)


def owe(minor, holder="member:1", currency="EUR", **options):
    """Post what is owed to a holder who is paid out, available at once; return the entry."""
    account = ledger.account_of(holder, currency)
    pay_to(holder)
    kind = "credit" if minor > 0 else "adjustment"
    key = f"{next(numbers)}"
    return ledger.post(account, Money(minor, currency), kind=kind, key=key, **options)


def of_the_site():
    total, available, _ = ledger.balance(ledger.site_account("payout", "EUR"))
    return total, available


def balance(holder="member:1", currency="EUR"):
    total, available, _ = ledger.balance(ledger.account_of(holder, currency))
    return total, available


def drafted(holder="member:1"):
    """Return the payout that was drafted of 60 euros to a holder."""
    owe(6000, holder)
    return make_payouts(currency="EUR").payouts.get(account__holder=holder)


def claims(payout):
    return set(payout.items.values_list("claimed", flat=True))


# To draft


def test_what_is_available_is_drafted_once_and_is_owed_no_more():
    entries = [owe(3000), owe(2500)]
    batch = make_payouts(currency="EUR")
    [payout] = batch.payouts.all()
    assert (payout.minor, payout.state, str(payout.money)) == (5500, "draft", "55.00 EUR")
    assert claims(payout) == {entry.pk for entry in entries}
    posted = Entry.objects.get(kind="payout")
    assert (posted.key, posted.minor) == (f"payout:{payout.pk}", -5500)
    assert (posted.contra.holder, posted.available_on) == ("site:payouts", posted.created_on)
    assert balance() == (0, 0)
    assert of_the_site() == (5500, 5500)
    assert payouts.totals(batch) == (1, 5500)
    assert make_payouts(currency="EUR") is None
    assert Payout.objects.count() == PayoutBatch.objects.count() == 1


def test_what_is_below_the_minimum_waits_for_more(settings):
    owe(4999)
    assert make_payouts(currency="EUR") is None
    owe(1)
    assert make_payouts(currency="EUR").payouts.get().minor == 5000
    settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": "0.02"}
    owe(1)
    assert make_payouts(currency="EUR") is None
    owe(1)
    assert make_payouts(currency="EUR").payouts.get().minor == 2


def test_nobody_is_paid_nothing_or_less(settings):
    settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 0}
    owe(100)
    owe(-100)
    owe(-5000, "member:2")
    assert make_payouts(currency="EUR") is None
    assert not PayoutBatch.objects.exists()
    owe(1)
    [payout] = make_payouts(currency="EUR").payouts.all()
    assert (payout.minor, payout.items.count()) == (1, 3)
    assert balance("member:2") == (-5000, -5000)


def test_a_debt_is_netted_from_what_comes_later():
    partner = make_partner()
    make_rule(50)
    with freeze(datetime(2027, 3, 1, tzinfo=UTC)) as clock:
        first = convert(partner, minor=20_000)
        clock.tick(days=31)
        paid = make_payouts(currency="EUR").payouts.get()
        assert paid.minor == 10_000
        reverse_conversion(first, Money(8000, "EUR"))
        account = account_of(partner)
        assert ledger.balance(account) == (-4000, -4000, "EUR")
        assert make_payouts(currency="EUR") is None
        convert(partner, minor=17_998)
        clock.tick(days=31)
        assert make_payouts(currency="EUR") is None
        convert(partner, minor=2)
        clock.tick(days=31)
        [payout] = make_payouts(currency="EUR").payouts.all()
        assert (payout.minor, payout.items.count()) == (5000, 3)
        assert ledger.balance(account) == (0, 0, "EUR")


def test_what_is_held_is_not_paid():
    with freeze() as clock:
        owe(5000)
        owe(700, available_on=timezone.now() + timedelta(days=1))
        looked_at = owe(900)
        review = Review.objects.create(entry=looked_at, reason="network")
        assert make_payouts(currency="EUR").payouts.get().minor == 5000
        clock.tick(days=1)
        review.outcome, review.resolved_on = "released", timezone.now()
        review.save()
        assert balance() == (1600, 1600)
        owe(3400)
        assert make_payouts(currency="EUR").payouts.get().minor == 5000


def test_what_came_after_until_is_left_for_the_next_run():
    with freeze() as clock:
        owe(5000)
        then = timezone.now()
        clock.tick(seconds=1)
        owe(6000)
        owe(9000, "member:2")
        batch = make_payouts(currency="EUR", until=then)
        assert batch.until == then
        assert batch.payouts.get().minor == 5000
        later = make_payouts(currency="EUR").payouts
        assert sorted(later.values_list("minor", flat=True)) == [6000, 9000]


def test_what_was_spent_or_lost_since_until_is_netted_but_not_of_what_is_left_for_the_next_run():
    with freeze() as clock:
        owe(9000)
        kept = Entry.objects.get()
        then = timezone.now()
        clock.tick(seconds=1)
        owe(8000, "member:2")
        left = owe(6000)
        clock.tick(seconds=1)
        account = ledger.account_of("member:1", "EUR")
        ledger.spend(account, Money(1000, "EUR"), key="order")
        now = timezone.now()
        for entry, minor in ((kept, 500), (left, 600)):
            reversal_of(entry, minor, key=f"gone:{entry.pk}", now=now).save()
        # Owed only later, as what it is owed for.
        owe(-300, available_on=now + timedelta(days=1))
        assert due(currency="EUR", until=then)[:2] == (1, 7500)
        assert make_payouts(currency="EUR", until=then).payouts.get().minor == 7500
        later = make_payouts(currency="EUR").payouts
        assert sorted(later.values_list("minor", flat=True)) == [5400, 8000]


def test_each_holder_and_each_currency_is_paid_by_itself():
    owe(5000)
    owe(6000, "member:2")
    owe(7000, currency="USD")
    [first, second] = make_payouts(currency="EUR").payouts.order_by("account")
    assert (first.account.holder, first.minor) == ("member:1", 5000)
    assert (second.account.holder, second.minor) == ("member:2", 6000)
    dollars = make_payouts(currency="USD")
    assert (dollars.currency, dollars.payouts.get().minor) == ("USD", 7000)
    assert make_payouts(currency="USD") is None
    assert balance(currency="USD") == (0, 0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"currency": "eur"}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": "EUR", "until": datetime(2026, 1, 1)}, "until"),  # noqa: DTZ001
        ({"currency": "EUR", "until": datetime(9000, 1, 1, tzinfo=UTC)}, "until"),
    ],
)
@pytest.mark.parametrize("work", [make_payouts, payouts.due])
def test_what_is_asked_for_wrongly(work, options, named):
    owe(5000)
    with pytest.raises((InvalidMoney, ValueError), match=f"^{named}: "):
        work(**options)
    assert not Payout.objects.exists()


def test_accounts_are_gone_through_in_slices(monkeypatch):
    monkeypatch.setattr(payouts, "SLICE", 3)
    for number in range(8):
        owe(5000 + number, f"member:{number}")
        owe(6000, f"other:{number}", currency="USD")
    told = []
    batch = make_payouts(currency="EUR", progress=lambda *done: told.append(done))
    assert told == [(3, 8), (6, 8), (8, 8)]
    assert payouts.totals(batch) == (8, 40_028)
    assert all(
        sum(item.entry.minor for item in payout.items.all()) == payout.minor
        for payout in batch.payouts.all()
    )


def test_a_slice_costs_ten_statements():
    for number in range(40):
        owe(6000, f"member:{number}")
        owe(-500, f"member:{number}")
    ledger.site_account("payout", "EUR")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        make_payouts(currency="EUR")
    mine = [each for each in queries if "SAVEPOINT" not in each["sql"]]
    # The account of the site, how many there are, and that there is no other slice.
    assert len(mine) - 3 <= 10
    assert Payout.objects.count() == 40


def test_whoever_is_owed_too_much_keeps_nobody_else_waiting(caplog):
    """Nobody is paid beyond what an amount can be; the others are."""
    owe(2**63 - 1)
    owe(1)
    owe(2**63 - 1, "member:2")
    owe(6000, "member:3")
    assert payouts.due(currency="EUR") == (2, 2**63 + 5999, 0, 0)
    batch = make_payouts(currency="EUR")
    paid = dict(batch.payouts.values_list("account__holder", "minor"))
    assert paid == {"member:2": 2**63 - 1, "member:3": 6000}
    assert payouts.totals(batch) == (2, 2**63 + 5999)
    too_much = ledger.account_of("member:1", "EUR")
    assert f"account {too_much.pk} is owed more" in caplog.text
    owe(-1)
    assert make_payouts(currency="EUR").payouts.get().minor == 2**63 - 1


def test_credits_are_paid_out_where_somebody_has_said_where():
    account = ledger.account_of("member:1", "EUR")
    ledger.post(account, Money(6000, "EUR"), kind="credit", key="referral")
    partner = account_of(make_partner())
    ledger.post(partner, Money(7000, "EUR"), kind="credit", key="partner")
    assert payouts.due(currency="EUR") == (1, 7000, 0, 1)
    [payout] = make_payouts(currency="EUR").payouts.all()
    assert (payout.account, payout.minor) == (partner, 7000)
    assert ledger.balance(account).available == 6000
    pay_to(account.holder)
    [payout] = make_payouts(currency="EUR").payouts.all()
    assert (payout.account, payout.minor) == (account, 6000)


def test_what_is_due_is_told_without_writing_anything():
    owe(5000)
    owe(4000, "member:2")
    # To a partner nobody has said yet where; credits of others are theirs to spend till then.
    ledger.post(account_of(make_partner()), Money(9000, "EUR"), kind="credit", key="partner")
    owe(9000, "member:3")
    PayoutDestination.objects.get(holder="member:3").delete()
    before = Account.objects.count()
    assert payouts.due(currency="EUR") == (2, 14_000, 1, 1)
    assert payouts.due(currency="USD") == (0, 0, 0, 0)
    assert not Payout.objects.exists()
    assert Account.objects.count() == before


def test_the_ledgers_line_is_announced():
    told = []

    def listen(entry, **kwargs):
        told.append((entry.kind, entry.minor))

    owe(5000)
    entry_posted.connect(listen)
    try:
        payout = make_payouts(currency="EUR").payouts.get()
        payouts.fail(payout, "no such account")
    finally:
        entry_posted.disconnect(listen)
    assert told == [("payout", -5000), ("reversal", 5000)]


def meanwhile(monkeypatch, *works):
    """Let something happen between the sums of a slice and what is claimed.

    That is after the accounts are locked, unless nobody could post to them there any more.
    """
    before = connection.vendor == "mysql"
    name = "_sums" if before else "_claim"
    usual, left = getattr(payouts, name), list(works)

    def late(*arguments):
        found = usual(*arguments) if before else None
        if left:
            left.pop(0)()
        return found if before else usual(*arguments)

    monkeypatch.setattr(payouts, name, late)


def credited_earlier(minor, holder="member:1"):
    """Commit what was posted before, by a transaction that took long."""
    account = ledger.account_of(holder, "EUR")
    site = ledger.site_account("credit" if minor > 0 else "adjustment", "EUR")
    then = timezone.now() - timedelta(minutes=1)

    def post():
        Entry.objects.bulk_create(
            [
                Entry(
                    account=account,
                    contra=site,
                    kind="adjustment",
                    minor=minor,
                    key=f"late:{holder}:{minor}",
                    available_on=then,
                    created_on=then,
                )
            ]
        )

    # On SQLite nobody can write beside the run.
    return post if connection.vendor == "sqlite" else lambda: at_once(1, post)


@pytest.mark.django_db(transaction=True)
def test_what_is_paid_is_what_was_claimed(monkeypatch):
    owe(5000)
    owe(5500, "member:2")
    owe(7000, "member:3")
    pay_to("member:4")
    late = [
        credited_earlier(300),
        credited_earlier(-501, "member:2"),
        credited_earlier(-501, "member:3"),
        credited_earlier(9000, "member:4"),
    ]
    meanwhile(monkeypatch, lambda: [post() for post in late])
    batch = make_payouts(currency="EUR")
    paid = dict(batch.payouts.values_list("account__holder", "minor"))
    assert paid == {"member:1": 5300, "member:3": 6499}
    assert balance() == balance("member:3") == (0, 0)
    assert balance("member:2") == (4999, 4999)
    again = make_payouts(currency="EUR")
    assert again.payouts.get().account.holder == "member:4"


@pytest.mark.django_db(transaction=True)
def test_a_batch_of_which_nothing_is_left_is_none(monkeypatch):
    owe(5000)
    meanwhile(monkeypatch, credited_earlier(-1))
    assert make_payouts(currency="EUR") is None
    assert not PayoutBatch.objects.exists()
    assert not PayoutEntry.objects.exists()


def test_no_entry_is_in_two_payouts_whoever_says_so():
    payout = drafted()
    other = drafted("member:2")
    entry = payout.items.get().entry
    with pytest.raises(IntegrityError), transaction.atomic():
        PayoutEntry.objects.create(payout=other, entry=entry, claimed=entry.pk)


def command(*arguments):
    out = StringIO()
    call_command("make_payouts", *arguments, stdout=out)
    return [line.split() for line in out.getvalue().splitlines()]


def test_the_command_tells_what_would_be_drafted_and_drafts_it():
    for minor, holder in [(123_456, "member:1"), (5000, "member:2"), (4999, "member:3")]:
        owe(minor, holder)
    owe(70, currency="JPY")
    owe(60_000, currency="KWD")
    table = [["EUR", "2", "1,284.56"], ["JPY", "1", "70"], ["KWD", "1", "60.000"]]
    assert command("--dry-run")[1:] == table
    assert not Payout.objects.exists()
    assert command("--currency", "JPY", "KWD") == [["currency", "holders", "drafted"], *table[1:]]
    assert command()[1:] == [table[0], ["JPY", "0", "0"], ["KWD", "0", "0.000"]]
    assert Payout.objects.count() == 4
    assert command("--dry-run", "--currency", "EUR")[1:] == [["EUR", "0", "0.00"]]


def test_the_command_leaves_what_came_after_a_date():
    with freeze(datetime(2026, 5, 1, tzinfo=UTC)) as clock:
        owe(5000)
        clock.tick(days=9)
        owe(6000, "member:2")
        assert command("--until", "2026-05-02")[1] == ["EUR", "1", "50.00"]
        assert command("--until", "2026-05-10T00:00Z", "--dry-run")[1] == ["EUR", "1", "60.00"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--until", "soon"], "--until"),
        (["--until", "9000-01-01"], "until"),
        (["--currency", "EUR", "eur"], "--currency"),
    ],
)
def test_the_command_refuses_what_it_cannot_read(arguments, named):
    owe(5000)
    with pytest.raises(CommandError, match=named):
        command(*arguments)
    assert not Payout.objects.exists()


# From draft to paid, or failed


def listening(work):
    told = []

    def listen(payout, **kwargs):
        told.append((payout.pk, payout.state))

    payout_settled.connect(listen)
    try:
        work()
    finally:
        payout_settled.disconnect(listen)
    return told


def test_a_payout_is_approved_sent_and_paid():
    payout = drafted()

    def settle():
        payouts.approve(payout)
        payouts.mark_sent(payout, "B-17")
        payouts.mark_paid(payout)

    assert listening(settle) == [(payout.pk, "paid")]
    stored = Payout.objects.get()
    assert (stored.state, stored.provider_reference) == ("paid", "B-17")
    assert stored.created_on <= stored.approved_on <= stored.sent_on <= stored.settled_on
    assert (payout.state, payout.settled_on) == (stored.state, stored.settled_on)
    assert balance() == (0, 0)


STEPS = {
    "approve": payouts.approve,
    "send": payouts.mark_sent,
    "pay": payouts.mark_paid,
    "fail": lambda payout: payouts.fail(payout, "no such account"),
    "come back": lambda payout: payouts.mark_returned(payout, "account closed"),
}
ALLOWED = {
    (): {"approve", "fail"},
    ("approve",): {"send", "fail"},
    ("approve", "send"): {"pay", "fail"},
    ("approve", "send", "pay"): {"come back"},
    ("approve", "send", "pay", "come back"): set(),
    ("fail",): set(),
    ("approve", "send", "fail"): set(),
}
BEFORE = {
    "send": ["approve"],
    "pay": ["approve", "send"],
    "come back": ["approve", "send", "pay"],
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", ALLOWED)
def test_each_transition_happens_from_where_it_may_and_once(before, step):
    payout = drafted()
    for each in before:
        STEPS[each](payout)
    stale = Payout.objects.get()
    if step in ALLOWED[before]:
        STEPS[step](payout)
    else:
        with pytest.raises(InvalidTransition):
            STEPS[step](payout)
    if before or step in ALLOWED[before]:
        left = Payout.objects.values().get()
        with pytest.raises(InvalidTransition):
            STEPS[step](stale)
        assert Payout.objects.values().get() == left


def test_what_failed_is_owed_and_can_be_paid_again():
    payout = drafted()
    payouts.mark_sent(payouts.approve(payout))
    told = listening(lambda: payouts.fail(payout, "no such account " * 100))
    assert told == [(payout.pk, "failed")]
    assert Payout.objects.get().reason == ("no such account " * 100)[:300]
    assert balance() == (6000, 6000)
    assert of_the_site() == (0, 0)
    assert claims(payout) == {None}
    back = Entry.objects.get(kind="reversal")
    assert (back.reverses.key, back.minor) == (f"payout:{payout.pk}", 6000)
    again = make_payouts(currency="EUR").payouts.get()
    assert (again.minor, again.uid != payout.uid) == (6000, True)
    assert again.items.get().entry == payout.items.get().entry
    assert balance() == (0, 0)
    assert make_payouts(currency="EUR") is None


def test_what_came_back_is_owed_and_can_be_paid_again():
    payout = payouts.mark_sent(payouts.approve(drafted()))

    def settle():
        payouts.mark_paid(payout)
        payouts.mark_returned(payout, "account closed " * 100)

    assert listening(settle) == [(payout.pk, "paid"), (payout.pk, "returned")]
    stored = Payout.objects.get()
    assert stored.settled_on <= stored.returned_on
    assert stored.reason == ("account closed " * 100)[:300]
    assert (balance(), of_the_site(), claims(payout)) == ((6000, 6000), (0, 0), {None})
    again = make_payouts(currency="EUR").payouts.get()
    assert again.items.get().entry == payout.items.get().entry
    assert balance() == (0, 0)
    assert list(Audit().differences()) == []
    assert_ledger_balanced()


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "returned"},
        {"state": "returned", "settled_on": START},
        {"state": "paid", "settled_on": START, "returned_on": START},
        {"state": "draft", "returned_on": START},
    ],
)
def test_no_state_goes_without_its_dates(fields):
    payout = drafted()
    with pytest.raises(IntegrityError), transaction.atomic():
        Payout.objects.filter(pk=payout.pk).update(**fields)


def test_a_batch_is_dropped_while_it_is_a_draft(monkeypatch):
    monkeypatch.setattr(settling, "AT_ONCE", 2)
    for number in range(5):
        owe(5000, f"member:{number}")
    batch = make_payouts(currency="EUR")
    payouts.fail(batch.payouts.get(account__holder="member:0"), "left")
    steps = payouts.dropping(batch, "made by mistake")
    assert next(steps) == (2, 4)
    assert batch.payouts.filter(state="failed").count() == 3
    # Somebody is faster: that one stays.
    payouts.approve(batch.payouts.get(account__holder="member:4"))
    assert list(steps) == [(3, 4)]
    assert batch.payouts.filter(reason="made by mistake").count() == 3
    assert batch.payouts.get(account__holder="member:4").state == "approved"
    with pytest.raises(InvalidTransition):
        next(payouts.dropping(batch, "once more"))
    assert balance("member:1") == (5000, 5000)
    assert list(Audit().differences()) == []


def test_a_failure_that_cannot_be_posted_is_none(monkeypatch):
    payout = drafted()
    monkeypatch.setattr(settling, "key_of", lambda payout: "payout:unknown")
    with pytest.raises(Entry.DoesNotExist):
        payouts.fail(payout, "no such account")
    assert Payout.objects.get().state == "draft"
    assert claims(payout) != {None}


def test_a_reference_that_is_too_long_is_refused():
    payout = payouts.approve(drafted())
    with pytest.raises(ValueError, match=r"^provider_reference: "):
        payouts.mark_sent(payout, "x" * 201)
    assert Payout.objects.get().state == "approved"


def test_a_batch_is_approved_and_sent_where_it_goes():
    for number in range(4):
        owe(5000, f"member:{number}")
    batch = make_payouts(currency="EUR")
    payouts.fail(batch.payouts.get(account__holder="member:0"), "left")
    assert payouts.approve_batch(batch) == 3
    assert payouts.approve_batch(batch) == 0
    paypal, other, moved = (
        PayoutDestination.objects.get(holder=f"member:{number}") for number in (1, 2, 3)
    )
    paypal.method, paypal.name = "paypal", "Anna"
    paypal.save()
    other.email = "bert@example.com"
    other.save()
    moved.delete()
    assert payouts.send_batch(batch, "paypal") == 1
    sent = batch.payouts.get(state="sent")
    assert (sent.account.holder, sent.method) == ("member:1", "paypal")
    assert (sent.name, sent.email) == ("Anna", "anna@example.com")
    # Whoever goes elsewhere from now on has nevertheless been sent this one.
    paypal.method = "wise"
    paypal.save()
    assert payouts.send_batch(batch, "wise") == 1
    assert batch.payouts.get(method="wise").account.holder == "member:2"
    assert batch.payouts.get(state="approved").account.holder == "member:3"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", STEPS)
def test_of_many_at_once_one_makes_the_transition(step):
    payout = drafted()
    for each in BEFORE.get(step, []):
        STEPS[each](payout)
    stale = [Payout.objects.get() for _ in range(8)]

    def work():
        try:
            STEPS[step](stale.pop())
        except InvalidTransition:
            return False
        return True

    assert at_once(8, work).count(True) == 1
    assert Entry.objects.filter(kind="reversal").count() == (step in ("fail", "come back"))


@pytest.mark.parametrize("reference", ["a\0b", "a\ud800b", "a\nb", "a" * 10**6])
def test_a_reference_that_no_database_takes_is_refused(reference):
    owe(5000)
    payout = payouts.approve(make_payouts(currency="EUR").payouts.get())
    with pytest.raises(ValueError, match=r"^provider_reference: "):
        payouts.mark_sent(payout, reference)
    assert Payout.objects.get().state == "approved"


@pytest.mark.parametrize("reason", ["a\0b", "a\ud800b", "a" * 10**6])
def test_why_one_has_failed_is_made_to_fit(reason):
    owe(5000)
    payout = payouts.fail(make_payouts(currency="EUR").payouts.get(), reason)
    assert payout.reason in ("ab", "a?b", "a" * 300)
    assert Payout.objects.get().reason == payout.reason
