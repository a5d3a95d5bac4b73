"""What would have been earned by other rules is what is earned by them, and nothing is written."""

import io
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.db.models import DateTimeField, Value

from affiliations.money import Money
from affiliations.rewards import audit, reviews, rules
from affiliations.rewards.models import CommissionRule, Entry, Review
from affiliations.rewards.replay import drafts, replay
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user
from tests.rewards.factories import ORDER, convert, make_group, make_rule

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 27, 12, tzinfo=UTC)
SINCE = START + timedelta(days=20)
#: Worlds that are lived through always, and in the long lane.
SHORT, REST = 3, range(3, 25)
LONG = [pytest.mark.long, pytest.mark.timeout(1200)]


def fields_of(chance):
    """Return the fields of some rule."""
    maybe = lambda *values: chance.choice([None, None, *values])  # noqa: E731
    fields = {"currency": chance.choice(["", "EUR", "USD"]), "priority": chance.choice([0, 1])}
    if chance.random() < 0.3:
        fields |= {"flat_minor": chance.randint(1, 900), "currency": fields["currency"] or "EUR"}
    else:
        fields["percent"] = Decimal(chance.randint(1, 999_999)) / 10_000
    rate = (
        (lambda: chance.randint(1, 999)) if "flat_minor" in fields else lambda: chance.choice("59")
    )
    fields["times"], fields["months"] = maybe(1, 3), maybe(1)
    fields["period"] = chance.choice(["month", "quarter", "year", "ever"])
    fields["tiers"] = chance.choice([[], [[1, rate()], [4, rate()]]])
    if fields["currency"]:
        fields["cap_minor"], fields["period_cap_minor"] = maybe(500), maybe(3000)
        fields["minimum_minor"] = maybe(4000)
        if fields["tiers"] and chance.random() < 0.5:
            fields |= {"tiers_by": "amount", "tiers": [[5000, rate()], [40_000, rate()]]}
    return fields


class World:
    """A site on which all that happens follows from a number; `changed` is a rule's later terms."""

    def __init__(self, seed, changed=None):
        chance = random.Random(seed)
        self.partners = [make_partner() for _ in range(3)]
        buyers = [make_user() for _ in range(4)]
        self.partners[0].users.add(buyers[0])
        whose = [{}, {"group": make_group(*self.partners[1:])}, {"partner": self.partners[2]}]
        whose += [{"trigger": ORDER}, {}]
        with freeze(START) as clock:
            found = [make_rule(published_on=START, **each, **fields_of(chance)) for each in whose]
            self.rule = chance.choice(found)
            retired = chance.choice(found)
            events = []
            for turn in range(60):
                # A little later each time, so that there is an order.
                events.append((START + timedelta(hours=16 * turn, seconds=turn), None))
            turn = self.rejected = 0
            is_changed = False
            while events:
                when, later = events.pop(0)
                if changed is not None and not is_changed and when >= SINCE:
                    self.change(changed)
                    is_changed = True
                clock.now = when
                if later is not None:
                    later()
                    continue
                turn += 1
                if turn == 45 and retired != self.rule:
                    retired.refresh_from_db()
                    rules.retire(retired)
                conversion = convert(
                    *chance.sample(self.partners, chance.choice([1, 1, 2, 3])),
                    minor=chance.choice([None, 1, 999, 5000, 10_001]),
                    currency=chance.choice(["EUR", "EUR", "USD"]),
                    user=chance.choice(buyers),
                )
                # Of those alone that are the same whatever a rule is changed to.
                if chance.random() < 0.4 and when < SINCE:
                    decided = when + timedelta(hours=chance.randint(1, 500), minutes=turn)
                    events.append((decided, partial(self.reject, conversion)))
                if chance.random() < 0.4:
                    money = conversion.money
                    if money and money.minor > 2 and chance.random() < 0.4:
                        money = Money(money.minor // 3, money.currency)
                    else:
                        money = None
                    back = when + timedelta(hours=chance.randint(1, 400), minutes=turn)
                    events.append((back, partial(self.refund, conversion, money)))
                events.sort(key=lambda event: event[0])
            self.end = clock.now

    def refund(self, conversion, money):
        conversion.refresh_from_db()
        if conversion.reversed_on is None:
            reverse_conversion(conversion, money)

    def reject(self, conversion):
        """Let staff decide against what the first of its partners has earned, if that is any."""
        entry = Entry.objects.filter(commission__conversion=conversion, kind="commission").first()
        if entry is not None:
            review = Review.objects.create(entry=entry, reason="velocity")
            self.rejected += reviews.reject(review, by=None) is not None

    def change(self, changed):
        """Let a rule's other terms hold from now on, whatever is said of publications."""
        new = rules.draft_replacement(self.rule)
        set_terms(new, changed)
        CommissionRule.objects.filter(pk=self.rule.pk).update(valid_until=SINCE)
        CommissionRule.objects.filter(pk=new.pk).update(published_on=SINCE)

    def named(self, outcomes, what):
        """Return a figure of each outcome, by who it is in any world of the same number."""
        number = {partner.pk: place for place, partner in enumerate(self.partners)}
        found = {(number[each.partner.pk], each.currency): getattr(each, what) for each in outcomes}
        return {key: value for key, value in found.items() if value}

    def in_the_ledger(self):
        """Return what was earned since, by the entries."""
        found = {}
        entries = Entry.objects.filter(commission__conversion__created_on__gte=SINCE)
        for entry in entries.select_related("account"):
            key = self.partners.index(entry.account.partner), entry.account.currency
            found[key] = found.get(key, 0) + entry.minor
        return {key: value for key, value in found.items() if value}


def set_terms(rule, fields):
    empty = dict.fromkeys(["percent", "flat_minor", "cap_minor", "period_cap_minor"])
    empty |= {"minimum_minor": None, "tiers_by": "count"}
    for name, value in {**empty, **fields}.items():
        setattr(rule, name, value)
    rule.save()


@pytest.mark.parametrize(
    "seed", [*range(SHORT), *(pytest.param(each, marks=LONG) for each in REST)]
)
def test_a_replay_is_what_was_earned_and_what_would_have_been(seed, shared):
    changed = fields_of(random.Random(f"changed {seed}"))
    with transaction.atomic():
        there = World(seed, changed).in_the_ledger()
        transaction.set_rollback(True)
    world = World(seed)
    assert world.rejected
    assert list(audit.Audit().differences()) == []
    # By the rules that were in force nothing differs.
    for since in (START, SINCE, SINCE + timedelta(days=9, seconds=5)):
        with freeze(world.end):
            found = replay(since)
        assert [each.difference for each in found] == [0] * len(found)
    # By another one it comes to what is earned where that was published.
    draft = rules.draft_replacement(world.rule)
    set_terms(draft, changed)
    with freeze(world.end):
        found = replay(SINCE, [draft])
    assert world.named(found, "would_earn") == there
    assert world.named(found, "earned") == world.in_the_ledger()


def test_teeth_counts_that_begin_with_the_replay(shared, monkeypatch):
    monkeypatch.setattr("affiliations.rewards.replay.Replay._before", nothing)
    world = World(0)
    with freeze(world.end):
        assert any(each.difference for each in replay(SINCE))


def nothing(self):
    rows = Entry.commission.field.related_model.objects.none()
    return rows.annotate(rejected_on=Value(None, DateTimeField()))


def differences():
    """Return what the rule that was in force makes, since each moment, of what was rejected."""
    partner = make_partner()
    with freeze(START) as clock:
        make_rule(10, published_on=START, period="ever", tiers=[[2, "50"]])
        moments, sold = [], []
        for step in "sell", "sell", "reject", "sell", "sell", "look":
            moments.append(clock.now)
            if step == "sell":
                sold.append(convert(partner))
            elif step == "reject":
                entry = Entry.objects.get(commission__conversion=sold[0])
                reviews.reject(Review.objects.create(entry=entry, reason="velocity"), by=None)
            clock.tick(days=1)
        minors = [each.commissions.get().minor for each in sold]
        assert minors == [1000, 1000, 1000, 5000]
        return [sum(each.difference for each in replay(since)) for since in moments]


def test_what_was_rejected_counts_until_then():
    assert differences() == [0] * 6


def test_teeth_what_was_rejected_counts_for_ever(monkeypatch):
    monkeypatch.setattr("affiliations.rewards.replay._first", lambda reversed_on, _: reversed_on)
    # From the beginning of the third day on what was rejected is among what was before.
    assert differences() == [4000, 4000, 4000, 0, 0, 0]


def rows():
    """Return all there is in the database."""
    return {
        model._meta.label: list(model._base_manager.order_by("pk").values_list())
        for model in apps.get_models()
    }


def test_nothing_is_written(shared):
    world = World(1)
    set_terms(rules.draft_replacement(world.rule), {"percent": Decimal(50), "currency": "JPY"})
    make_rule(60, published_on=None, group=make_group(*world.partners))
    before = rows()
    replay(START, drafts())
    call_command("replay_rules", since=START, stdout=io.StringIO())
    assert rows() == before
    assert drafts()[0].published_on is None


def test_what_a_review_has_rejected_is_earned_by_no_rule():
    partner = make_partner()
    with freeze(START) as clock:
        rule = make_rule(10, published_on=START)
        convert(partner)
        kept = convert(partner)
        entry = Entry.objects.exclude(commission__conversion=kept).get()
        Review.objects.create(
            entry=entry, reason="velocity", outcome="rejected", resolved_on=clock.now
        )
        draft = rules.draft_replacement(rule)
        set_terms(draft, {"percent": Decimal(30)})
        [outcome] = replay(START, [draft])
    assert (outcome.earned, outcome.would_earn, outcome.difference) == (1000, 3000, 2000)


def test_a_draft_is_tried_whenever_it_is_to_be_valid():
    partner = make_partner()
    with freeze(START):
        convert(partner)
        draft = make_rule(10, published_on=None, valid_from=START + timedelta(days=300))
        [outcome] = replay(START, [draft])
    assert (outcome.earned, outcome.would_earn) == (0, 1000)


def test_it_asks_no_more_for_many_conversions(django_assert_num_queries):
    partner = make_partner()
    make_rule(10, tiers=[[1, "20"]], times=3, published_on=START)
    for _ in range(20):
        convert(partner)
    with django_assert_num_queries(12):
        replay(START)


# The command


def run(*arguments):
    said = io.StringIO()
    call_command("replay_rules", *arguments, stdout=said)
    return said.getvalue()


def test_the_command_shows_what_each_partner_would_earn():
    anna, bert = make_partner(name="Anna", uid="anna"), make_partner(name="Bert", uid="bert")
    with freeze(START):
        rule = make_rule(10, published_on=START)
        convert(anna, minor=1_000_000)
        convert(bert)
        convert(bert, minor=500, currency="JPY")
        draft = rules.draft_replacement(rule)
        draft.percent = Decimal(5)
        draft.save()
    said = run("--since", "2026-01-01")
    assert said.splitlines() == [
        f"By {rule.name} ({draft.pk}):",
        "",
        "partner           earned  would earn  difference",
        "Anna anna  EUR  1,000.00      500.00     -500.00",
        "Bert bert  EUR     10.00        5.00       -5.00",
        "Bert bert  JPY        50          25         -25",
        "in all     EUR  1,010.00      505.00     -505.00",
        "in all     JPY        50          25         -25",
    ]
    assert run("--since", "2026-01-01", "--rule", str(draft.pk)) == said


def test_the_command_refuses_what_is_no_draft():
    with pytest.raises(CommandError, match="no draft"):
        run("--since", "2026-01-01")
    rule = make_rule(10)
    make_rule(10, published_on=None)
    with pytest.raises(CommandError, match=f"rule: {rule.pk} is no draft"):
        run("--since", "2026-01-01", "--rule", str(rule.pk))
    with pytest.raises(CommandError, match="--since"):
        run("--since", "once")


def test_an_amount_in_another_currency_is_none_of_a_tiers():
    partner = make_partner()
    with freeze(SINCE) as clock:
        make_rule(None, flat_minor=1, currency="EUR", published_on=SINCE)
        tried = {"tiers": [[100_000, 1000]], "tiers_by": "amount", "priority": 9}
        make_rule(None, flat_minor=500, currency="EUR", published_on=None, name="Draft", **tried)
        clock.tick(hours=1)
        convert(partner, minor=150_000, currency="JPY")
        convert(partner)
        clock.tick(hours=1)
        [outcome] = replay(SINCE, drafts())
    assert (outcome.earned, outcome.would_earn) == (2, 1000)
