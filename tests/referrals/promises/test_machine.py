"""Whatever happens to programs and members, the ledger is what was promised and what was earned.

A model in plain Python lives through what the referrals live through, and after every step says
what is there of each kind of credit, and what the billing system was told. It keeps what members
were promised and who is credited for them, and works out the rest anew each time.
"""

import hashlib
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qs

import pytest
from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from affiliations.exceptions import InvalidMoney, InvalidTransition
from affiliations.models import Callback
from affiliations.money import Money
from affiliations.referrals import invoices, services
from affiliations.referrals.exceptions import (
    AlreadyRegistered,
    CircularReferral,
    ProgramEnded,
    SelfReferral,
    UnknownProgram,
)
from affiliations.referrals.models import Member, Operation, Program
from affiliations.referrals.statements import statement
from affiliations.rewards import ledger
from affiliations.rewards.exceptions import InsufficientBalance
from affiliations.rewards.models import Account, Entry
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.testing import freeze
from tests.core.promises import chaos
from tests.rewards.promises.test_ledger_machine import find, forms, live

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
CURRENCIES = ("EUR", "USD")
BILLING = "https://billing.example/"

#: Around the targets, so that they are reached and missed about as often.
paid = st.sampled_from([100, 0, 99, 50, 250]) | st.integers(2**56, 2**57)
promises = st.fixed_dictionaries(
    {
        "credit_minor": st.sampled_from([0, 7, 500]) | st.integers(2**56, 2**57),
        "target_minor": st.sampled_from([0, 100, 100, 100, 2**56]),
        "reward_minor": st.sampled_from([None, 0, 30, 30]) | st.integers(2**56, 2**57),
        "depth": st.sampled_from([1, 1, 2, 3]),
        "max_per_indicator": st.sampled_from([None, None, 0, 1, 2]),
        "max_referrals": st.sampled_from([None, None, 0, 1, 3]),
        "active": st.sampled_from([True, True, True, False]),
    }
)


@dataclass(eq=False)
class Person:
    """What the model knows of a member."""

    row: Member
    currency: str
    program: Program
    indicator: "Person | None"
    credit: int
    target: int
    reward: int
    #: Who is credited when they have paid enough.
    above: "list[Person]"
    #: By reference: what was paid, and what was given back of it.
    invoices: dict[str, list[int]] = field(default_factory=dict)
    #: The last total, and when that was so.
    total: tuple[int, datetime] | None = None
    spent: Counter = field(default_factory=Counter)

    @property
    def paid(self):
        if self.total is not None:
            return self.total[0]
        return sum(max(minor - back, 0) for minor, back in self.invoices.values())

    @property
    def earned(self):
        """Whether those above are credited for good, as things are."""
        return self.paid >= self.target

    @property
    def line(self):
        """Who has brought them, and who those."""
        found, each = [], self.indicator
        while each is not None:
            found.append(each)
            each = each.indicator
        return found


class Referrals(RuleBasedStateMachine):
    """A site with a program in each of two currencies, and the model of what becomes of them."""

    seen: Counter

    def __init__(self):
        super().__init__()
        self.undo = ExitStack()
        self.undo.enter_context(transaction.atomic())
        self.clock = self.undo.enter_context(freeze(START))
        self.programs: list[Program] = []
        self.people: list[Person] = []
        self.orders = 0
        self.written: set[str] = set()

    def teardown(self):
        transaction.set_rollback(True)
        self.undo.close()

    # The model

    def pick(self, number):
        return self.people[number % len(self.people)]

    def pick_payer(self, number):
        """Pick somebody, most often one of those whose payments earn somebody something."""
        some = [each for each in self.people if each.reward and each.above]
        return (some or self.people)[number % len(some or self.people)]

    def refusal(self, who, indicator, program):
        """Return why somebody may not register, None if they may."""
        if who is not None and who is indicator:
            return SelfReferral
        if indicator is None and program is None and not any(p.active for p in self.programs):
            return UnknownProgram
        if who is not None:
            above = [] if indicator is None else indicator.line
            return CircularReferral if who in above else AlreadyRegistered
        program = program or self.usual(indicator)
        return None if program.active else ProgramEnded

    def usual(self, indicator):
        if indicator is not None:
            return indicator.program
        return next((each for each in self.programs if each.active), None)

    def expect(self, row, indicator, program):
        """Return what somebody is promised, and who is credited for them."""
        credit, target = program.credit_minor, program.target_minor
        reward = target if program.reward_minor is None else program.reward_minor
        if indicator is None:
            credit = reward = 0
        most = program.max_referrals
        counted = [p for p in self.people if p.program is program and (p.credit or p.reward)]
        if most is not None and len(counted) >= most and (credit or reward):
            credit = reward = 0
            self.seen["beyond the program's limit"] += 1
        above = [] if indicator is None else [indicator, *indicator.line][: program.depth]
        above = above if reward else []
        most = program.max_per_indicator
        if most is not None and above:
            mine = [each.above for each in self.people if each.program is program]
            left = [each for each in above if sum(each in some for some in mine) < most]
            self.seen["beyond the indicator's limit"] += len(left) < len(above)
            self.seen["beyond it, and not who is above"] += bool(left) and indicator not in left
            above = left
            reward = reward if left else 0
        self.seen["deep"] += bool(reward) and len(above) > 1
        self.seen["another currency"] += any(each.currency != program.currency for each in above)
        person = Person(row, program.currency, program, indicator, credit, target, reward, above)
        self.people.append(person)
        return person

    def owed(self):
        """Return by member and currency what each kind of credit comes to."""
        kinds = {"signup": Counter(), "acquired": Counter(), "potential": Counter()}
        for each in self.people:
            kinds["signup"][each, each.currency] += each.credit
            for above in each.above:
                kind = "acquired" if each.earned else "potential"
                kinds[kind][above, each.currency] += each.reward
        return kinds

    # The steps

    @initialize(fields=promises)
    def begin(self, fields):
        usual = {"credit_minor": 500, "target_minor": 100, "reward_minor": 30, "depth": 2}
        for currency, promised in zip(CURRENCIES, (usual, fields), strict=True):
            options = {**promised, "active": True}
            program = Program.objects.create(name=f"In {currency}", currency=currency, **options)
            self.programs.append(program)
            self.join(None, program)
        # At random it would take long until somebody is brought by whom somebody has brought.
        self.join(self.people[0], None)
        self.join(self.people[2], None)

    @rule(number=st.integers(0, 1), fields=promises)
    def change(self, number, fields):
        """Promise something else from now on."""
        program = self.programs[number]
        for name, value in fields.items():
            setattr(program, name, value)
        program.save()

    def join(self, indicator, program, who=None):
        self.clock.tick(seconds=1)
        refused = self.refusal(who, indicator, program)
        user_hash = f"user-{len(self.people)}" if who is None else who.row.user_hash
        options = {"indicator": indicator and indicator.row, "program": program}
        if refused is not None:
            with pytest.raises(refused) as caught:
                services.register(user_hash, **options)
            assert type(caught.value) is refused
            self.seen[refused.code] += 1
            return
        row = services.register(user_hash, **options)
        self.expect(row, indicator, program or self.usual(indicator))

    @rule(number=st.integers(0, 100), other=st.sampled_from([None, None, 0, 1]))
    def bring(self, number, other):
        """Register with somebody's link, most often in that one's program."""
        self.join(self.pick(number), None if other is None else self.programs[other])

    @rule(other=st.sampled_from([None, 0, 1]))
    def come(self, other):
        self.join(None, None if other is None else self.programs[other])

    @rule(number=st.integers(0, 100), again=st.integers(0, 100))
    def bring_again(self, number, again):
        """Register somebody who is there: that one, whoever brought them, or anybody."""
        self.join(self.pick(number), None, self.pick(again))

    def moved(self, person, report):
        """Report something; what it returns is what the model says that the indicator gains."""
        before = person.earned
        changed = report()
        gained = person.reward * (person.earned - before)
        assert changed == gained
        self.seen["acquired"] += gained > 0
        self.seen["lost"] += gained < 0

    @rule(
        number=st.integers(0, 100),
        minor=paid,
        ago=st.sampled_from([None, None, 0, 1, 5, 20]),
    )
    def report_total(self, number, minor, ago):
        """Report what somebody has paid in all, now or some minutes ago."""
        self.clock.tick(minutes=1)
        person = self.pick_payer(number)
        when = self.clock.now - timedelta(minutes=ago or 0)
        late = ago is not None and person.total is not None and when < person.total[1]
        self.seen["late"] += late and minor != person.paid

        def report():
            moment = None if ago is None else when
            money = Money(minor, person.currency)
            changed = invoices.report_total(person.row, money, reported_on=moment)
            if not late:
                person.total = (minor, when)
            return changed

        self.moved(person, report)

    @rule(number=st.integers(0, 100), reference=st.sampled_from("ab"), minor=paid)
    def pay(self, number, reference, minor):
        self.clock.tick(seconds=1)
        person = self.pick_payer(number)
        noted = person.invoices.get(reference, [0, 0])

        def report():
            changed = invoices.pay(person.row, reference, Money(minor, person.currency))
            person.invoices[reference] = [minor, noted[1]]
            return changed

        if noted[0] not in (0, minor):
            with pytest.raises(InvalidTransition):
                report()
            self.seen["another amount"] += 1
        else:
            self.moved(person, report)

    @rule(number=st.integers(0, 100), reference=st.sampled_from("ab"), minor=st.none() | paid)
    def refund(self, number, reference, minor):
        self.clock.tick(seconds=1)
        person = self.pick_payer(number)
        invoiced, back = person.invoices.get(reference, [0, 0])
        money = None if minor is None else Money(minor, person.currency)
        given = invoiced if minor is None else minor

        def report():
            changed = invoices.refund(person.row, reference, money)
            person.invoices[reference] = [invoiced, max(back, given)]
            self.seen["refunded"] += bool(invoiced and given)
            self.seen["refunded first"] += not invoiced
            return changed

        if (invoiced and given > invoiced) or (minor is None and not invoiced):
            with pytest.raises(InvalidMoney):
                report()
            self.seen["too much"] += 1
        else:
            self.moved(person, report)

    @rule(
        number=st.integers(0, 100),
        currency=st.sampled_from(CURRENCIES),
        part=st.sampled_from([1, 2, 3]),
    )
    def spend(self, number, currency, part):
        """Spend a half of what is available, all of it, or more."""
        self.clock.tick(seconds=1)
        person, owed = self.pick(number), self.owed()
        there = sum(owed[kind][person, currency] for kind in ("signup", "acquired"))
        there -= person.spent[currency]
        minor = max(there * part // 2, 1)
        self.orders += 1
        account = ledger.account_of(person.row.holder, currency)
        order = (account, Money(min(minor, 2**63 - 1), currency))
        if minor > there:
            with pytest.raises(InsufficientBalance):
                ledger.spend(*order, key=f"order-{self.orders}")
            self.seen["in debt"] += there < 0
            return
        ledger.spend(*order, key=f"order-{self.orders}")
        person.spent[currency] += minor
        self.seen["spent"] += 1

    # What holds

    @invariant()
    def it_is_balanced(self):
        assert_ledger_balanced()

    @invariant()
    def each_has_what_the_model_says(self):
        owed = self.owed()
        people = {person.row.holder: person for person in self.people}
        found = Account.objects.filter(holder__in=people).in_bulk()
        expected, balances = {}, ledger.balances(found.values())
        for person in self.people:
            for currency in CURRENCIES:
                kinds = [owed[kind][person, currency] for kind in ("signup", "acquired")]
                available = sum(kinds) - person.spent[currency]
                total = available + owed["potential"][person, currency]
                expected[person.row.holder, currency] = (total, available)
        for pk, account in found.items():
            has = balances[pk]
            assert (has.total, has.available) == expected.pop((account.holder, account.currency))
        assert not any(map(any, expected.values()))

    @invariant()
    def the_statements_say_it(self):
        owed, currency = self.owed(), CURRENCIES[len(self.written) % 2]
        for person in self.people:
            said = statement(person.row, limit=1, currency=currency)
            for kind, minor in owed.items():
                assert getattr(said, kind) == minor[person, currency]

    @invariant()
    def what_members_were_promised_is_kept(self):
        rows = Member.objects.order_by("pk").values_list(
            "credit_minor", "target_minor", "reward_minor", "paid_minor", "currency"
        )
        assert list(rows) == [
            (each.credit, each.target, each.reward, each.paid, each.currency)
            for each in self.people
        ]

    @invariant()
    def the_billing_system_was_told_of_all_of_it(self):
        told: Counter = Counter()
        for url, body in Callback.objects.values_list("url", "body"):
            said = {name: value for name, [value] in parse_qs(body).items()}
            minor = int(Decimal(said["amount"]).scaleb(2))
            told[url.removeprefix(BILLING), said["currency"]] += minor
        owed = self.owed()
        credited: Counter = Counter()
        for kind in ("signup", "acquired"):
            for (person, currency), minor in owed[kind].items():
                credited[person.row.user_hash, currency] += minor
        assert {key: minor for key, minor in told.items() if minor} == {
            key: minor for key, minor in credited.items() if minor
        }

    @invariant()
    def no_row_was_changed(self):
        rows = [
            *Entry.objects.order_by("pk").values_list(),
            *Operation.objects.order_by("pk").values_list(),
        ]
        digests = {hashlib.sha256(repr(row).encode()).hexdigest() for row in rows}
        assert self.written <= digests, "a row that was written was changed"
        self.written = digests


@pytest.fixture(autouse=True)
def billing(settings):
    settings.AFFILIATE_REFERRALS_BILLING_URL = f"{BILLING}{{user_hash}}"


@pytest.mark.django_db
@pytest.mark.parametrize(("runs", "steps"), forms(25, 20))
def test_the_ledger_is_what_was_promised_and_earned(runs, steps):
    usual = {"acquired", "lost", "already-registered", "deep", "spent", "another amount"}
    seen = live(runs, steps, Referrals, until=usual)
    chaos.report({"runs": runs, **seen})
    rare = {"self-referral", "circular-referral", "program-ended", "unknown-program", "late"}
    rare |= {"beyond the program's limit", "beyond the indicator's limit", "another currency"}
    rare |= {"refunded", "refunded first", "too much", "in debt", "beyond it, and not who is above"}
    # What happens now and then need not happen in a few runs.
    missing = (usual | rare if runs >= 500 else usual) - {what for what in seen if seen[what]}
    assert not missing


def credit_each_time(member):
    """Credit what was earned at each report, and not only at the first."""
    if not member.reward_minor or member.paid_minor < member.target_minor:
        return 0
    if member.acquired_on is None:
        return services.settle(member)
    member.turn += 1
    member.save(update_fields=["turn"])
    for each in services._above(member, "default"):
        services._credit(each, member, Operation.Kind.ACQUIRED_CREDIT)
    return 0


def take_nothing_back(member):
    return services.settle(member) if member.paid_minor >= member.target_minor else 0


def settle_wrongly(settle):
    return lambda monkeypatch: monkeypatch.setattr(invoices, "settle", settle)


def count_what_is_late(monkeypatch):
    report = invoices.report_total
    monkeypatch.setattr(
        invoices, "report_total", lambda member, total, reported_on: report(member, total)
    )


def mind_no_limit(monkeypatch):
    monkeypatch.setattr(services, "_has_enough", lambda member, program: False)


def paid_twice(books):
    for minor in (100, 250):
        books.report_total(0, minor, None)


def refunded(books):
    books.pay(0, "a", 100)
    books.refund(0, "a", None)


def reported_late(books):
    books.report_total(0, 250, 0)
    books.report_total(0, 0, 20)


def brought_too_many(books):
    books.change(0, {"max_per_indicator": 1})
    books.bring(0, None)


BROKEN = [
    (settle_wrongly(credit_each_time), paid_twice),
    (settle_wrongly(take_nothing_back), refunded),
    (count_what_is_late, reported_late),
    (mind_no_limit, brought_too_many),
]


def alone(lived):
    """Let a site live through something that is known, and look at it."""
    books = type("Books", (Referrals,), {"seen": Counter()})()
    try:
        books.begin({"credit_minor": 0, "target_minor": 0})
        lived(books)
        books.it_is_balanced()
        books.each_has_what_the_model_says()
        books.the_statements_say_it()
        books.the_billing_system_was_told_of_all_of_it()
    finally:
        books.teardown()


@pytest.mark.django_db
@pytest.mark.parametrize(("damage", "lived"), BROKEN)
def test_teeth_what_is_wrong_is_noticed(monkeypatch, damage, lived):
    alone(lived)
    damage(monkeypatch)
    with pytest.raises(AssertionError):
        alone(lived)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.django_db
@pytest.mark.parametrize("damage", [damage for damage, _ in BROKEN])
def test_teeth_what_is_wrong_is_found(monkeypatch, damage):
    damage(monkeypatch)
    with pytest.raises(AssertionError):
        find(Referrals)


@pytest.mark.django_db
def test_teeth_an_operation_that_is_changed():
    def lived(books):
        books.no_row_was_changed()
        first = Operation.objects.order_by("pk").first()
        Operation.objects.filter(pk=first.pk).update(created_on=START - timedelta(days=1))
        books.no_row_was_changed()

    with pytest.raises(AssertionError, match="was changed"):
        alone(lived)
