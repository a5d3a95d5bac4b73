"""A rule's way from its draft to its end, and what can be no rule."""

import threading
import time
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone

from affiliations.exceptions import InvalidTransition
from affiliations.rewards import audit, commissions, rules
from affiliations.rewards.models import Commission, CommissionRule
from affiliations.rewards.models.rules import LEAD
from affiliations.testing import freeze
from tests.core.factories import make_partner
from tests.core.promises.test_races import at_once
from tests.rewards.factories import convert, make_group, make_rule

pytestmark = pytest.mark.django_db


def draft(**fields):
    return make_rule(**{"published_on": None, **fields})


def stored(rule):
    return CommissionRule.objects.get(pk=rule.pk)


# From the draft to the end


def test_a_draft_pays_nobody_until_it_is_published_and_then_not_at_once():
    partner, rule = make_partner(), draft(percent=10)
    with freeze() as clock:
        assert convert(partner).commissions.get().minor == 0
        rules.publish(rule)
        assert rule.published_on == stored(rule).published_on == clock.now + LEAD
        clock.tick(seconds=LEAD.total_seconds() - 0.000001)
        assert convert(partner).commissions.get().minor == 0
        clock.tick(seconds=0.000001)
        assert convert(partner).commissions.get().rule == rule


def test_a_replacement_takes_the_place_of_what_it_replaces_without_a_gap():
    partner = make_partner()
    with freeze() as clock:
        rule = make_rule(10, tiers=[[1, "20"]], currency="EUR", priority=3)
        convert(partner)
        new = rules.draft_replacement(rule)
        assert (new.replaces, new.lineage, new.is_published) == (rule, rule.lineage, False)
        assert new.terms == rule.terms
        assert (new.priority, new.created_on) == (3, clock.now)
        new.tiers = [[1, "50"]]
        new.save()
        rules.publish(new)
        assert stored(rule).valid_until == new.published_on
        clock.now = new.published_on - timedelta(microseconds=1)
        assert convert(partner).commissions.get().record["considered"] == [[rule.pk, ""]]
        clock.now = new.published_on
        commission = convert(partner).commissions.get()
        # What was counted under the other one still counts.
        assert (commission.record["considered"], commission.minor) == ([[new.pk, ""]], 5000)


def test_a_replacement_that_begins_later_leaves_the_other_one_until_then():
    rule = make_rule(10)
    new = rules.draft_replacement(rule)
    new.valid_from = timezone.now() + timedelta(days=3)
    new.save()
    rules.publish(new)
    assert stored(rule).valid_until == new.valid_from


def test_what_ends_before_its_replacement_begins_ends_when_it_did():
    rule = make_rule(10, valid_until=timezone.now() + timedelta(days=1))
    new = rules.draft_replacement(rule)
    new.valid_from, new.valid_until = timezone.now() + timedelta(days=3), None
    new.save()
    rules.publish(new)
    assert stored(rule).valid_until == rule.valid_until


def test_each_step_is_taken_once():
    rule = draft(percent=10)
    with pytest.raises(InvalidTransition, match="is a draft"):
        rules.draft_replacement(rule)
    with pytest.raises(InvalidTransition, match="is a draft"):
        rules.retire(rule)
    rules.publish(rule)
    with pytest.raises(InvalidTransition, match="published already"):
        rules.publish(rule)
    one, other = rules.draft_replacement(rule), rules.draft_replacement(rule)
    rules.publish(one)
    before = stored(rule).valid_until
    with pytest.raises(InvalidTransition, match="replaced by another"):
        rules.publish(other)
    assert stored(rule).valid_until == before
    assert not stored(other).is_published
    with freeze() as clock:
        rules.retire(one)
        assert one.valid_until == clock.now + LEAD
        with pytest.raises(InvalidTransition, match="has ended"):
            rules.retire(one)
    brief = draft(percent=1, valid_until=timezone.now() + timedelta(seconds=1))
    with pytest.raises(InvalidTransition, match="valid_until"):
        rules.publish(brief)
    assert not stored(brief).is_published


@pytest.mark.django_db(transaction=True)
def test_of_many_replacements_that_are_published_at_once_one_is():
    rule = make_rule(10)
    drafts = [rules.draft_replacement(rule) for _ in range(8)]

    def work():
        try:
            rules.publish(drafts.pop())
        except InvalidTransition:
            return False
        return True

    assert at_once(8, work).count(True) == 1
    assert CommissionRule.objects.filter(replaces=rule, published_on__isnull=False).count() == 1


# What is published never changes


CHANGES = {
    "partner": make_partner,
    "group": make_group,
    "trigger": lambda: "Order placed",
    "percent": lambda: Decimal(11),
    "currency": lambda: "USD",
    "tiers": lambda: [[1, "5"]],
    "tiers_by": lambda: "amount",
    "period": lambda: "year",
    "minimum_minor": lambda: 5,
    "cap_minor": lambda: 5,
    "period_cap_minor": lambda: 5,
    "times": lambda: 5,
    "months": lambda: 5,
    "valid_from": timezone.now,
    "priority": lambda: 5,
    "published_on": lambda: None,
    "replaces": lambda: make_rule(10),
    "lineage": lambda: make_rule(10).lineage,
}


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_published_never_changes(name, only):
    rule = make_rule(10, currency="EUR")
    # As somebody has it who opened the draft before it was published, too.
    for mine in (rule, stored(rule)):
        setattr(mine, name, CHANGES[name]())
        field = rule._meta.get_field(name).attname
        with pytest.raises(InvalidTransition, match=f"^{field}: .* never changes"):
            mine.save(update_fields=[name] if only else None)
        assert getattr(stored(rule), field) != getattr(mine, field)


def test_a_draft_that_was_published_meanwhile_is_not_overwritten():
    rule = draft(percent=10)
    mine = stored(rule)
    rules.publish(rule)
    mine.name = "Better"
    with pytest.raises(InvalidTransition, match="published_on"):
        mine.save()
    assert stored(rule).is_published


def test_the_name_and_an_end_that_is_ahead_can_be_changed():
    rule = make_rule(10)
    rule.name = "Renamed"
    rule.valid_until = timezone.now() + timedelta(days=9)
    rule.save()
    assert (stored(rule).name, stored(rule).valid_until) == ("Renamed", rule.valid_until)
    rule.valid_until = None
    rule.save(update_fields=["valid_until"])
    assert stored(rule).valid_until is None


@pytest.mark.parametrize(
    ("old", "new"), [(None, -1), (None, 5), (-1, None), (-1, 100), (5, 100), (100, 5)]
)
def test_nothing_ends_in_retrospect_and_what_has_ended_stays_so(old, new):
    now = timezone.now()
    old, new = (each and now + timedelta(seconds=each) for each in (old, new))
    rule = make_rule(10, valid_until=old)
    rule.valid_until = new
    with pytest.raises(InvalidTransition, match=r"^valid_until"):
        rule.save()
    assert stored(rule).valid_until == old


def test_a_published_rule_is_not_deleted():
    rule = make_rule(10)
    with pytest.raises(InvalidTransition, match="published"):
        rule.delete()
    draft(percent=10).delete()
    assert CommissionRule.objects.get() == rule


# What can be no rule


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"percent": Decimal(-1)}, "percent"),
        ({"percent": Decimal("100.0001")}, "percent"),
        ({"percent": Decimal("1.00001")}, "percent"),
        ({"percent": Decimal("NaN")}, "percent"),
        ({"percent": Decimal("Infinity")}, "percent"),
        ({"percent": 7.5}, "percent"),
        ({"percent": True}, "percent"),
        ({"percent": "ten"}, "percent"),
        ({"percent": None}, "percent"),
        ({"flat_minor": 5, "currency": "EUR"}, "percent"),
        ({"percent": None, "flat_minor": -5, "currency": "EUR"}, "flat_minor"),
        ({"percent": None, "flat_minor": 10**40, "currency": "EUR"}, "flat_minor"),
        ({"percent": None, "flat_minor": 1.5, "currency": "EUR"}, "flat_minor"),
        ({"percent": None, "flat_minor": 5}, "currency"),
        ({"currency": "XYZ"}, "currency"),
        ({"currency": "eur"}, "currency"),
        ({"currency": "EURO"}, "currency"),
        ({"minimum_minor": 5}, "currency"),
        ({"cap_minor": 5}, "currency"),
        ({"period_cap_minor": 5}, "currency"),
        ({"minimum_minor": -5, "currency": "EUR"}, "minimum_minor"),
        ({"cap_minor": -5, "currency": "EUR"}, "cap_minor"),
        ({"period_cap_minor": -5, "currency": "EUR"}, "period_cap_minor"),
        ({"tiers": [[1, "5"]], "tiers_by": "amount"}, "currency"),
        ({"tiers": "steep"}, "tiers"),
        ({"tiers": {}}, "tiers"),
        ({"tiers": None}, "tiers"),
        ({"tiers": [5]}, "tiers"),
        ({"tiers": [[1]]}, "tiers"),
        ({"tiers": [[1, "5", "6"]]}, "tiers"),
        ({"tiers": [[0, "5"]]}, "tiers"),
        ({"tiers": [[-1, "5"]]}, "tiers"),
        ({"tiers": [[1.5, "5"]]}, "tiers"),
        ({"tiers": [[True, "5"]]}, "tiers"),
        ({"tiers": [[2**63, "5"]]}, "tiers"),
        ({"tiers": [[2, "5"], [1, "6"]]}, "tiers"),
        ({"tiers": [[1, "5"], [1, "6"]]}, "tiers"),
        ({"tiers": [[1, "NaN"]]}, "tiers"),
        ({"tiers": [[1, "-5"]]}, "tiers"),
        ({"tiers": [[1, "101"]]}, "tiers"),
        ({"tiers": [[1, 5.5]]}, "tiers"),
        ({"tiers": [[1, None]]}, "tiers"),
        ({"tiers": [[each + 1, "5"] for each in range(21)]}, "tiers"),
        ({"percent": None, "flat_minor": 5, "currency": "EUR", "tiers": [[1, "5"]]}, "tiers"),
        ({"tiers_by": "weight"}, "tiers_by"),
        ({"period": "decade"}, "period"),
        ({"times": 0}, "times"),
        ({"times": -1}, "times"),
        ({"months": 0}, "months"),
        ({"months": 1201}, "months"),
        ({"priority": 10**40}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"name": ""}, "name"),
        ({"trigger": "x" * 101}, "trigger"),
        (
            {"valid_from": timezone.now(), "valid_until": timezone.now() - timedelta(days=1)},
            "valid_until",
        ),
    ],
)
def test_what_can_be_no_rule_says_which_field_is_wrong(fields, named):
    with pytest.raises(ValidationError) as caught:
        CommissionRule.objects.create(**{"name": "Rule", "percent": Decimal(10), **fields})
    assert named in caught.value.message_dict
    assert not CommissionRule.objects.exists()


def test_no_rule_is_for_a_partner_and_a_group():
    with pytest.raises(ValidationError) as caught:
        make_rule(10, partner=make_partner(), group=make_group())
    assert [*caught.value.message_dict] == ["group"]


# Conversions that are recorded while a rule is published


def publish_amid_conversions(monkeypatch, lead, *, replacing):
    """Record conversions while a rule is published beside another one; return what audit says.

    The publication is committed slowly, and of each conversion the time is known a while before
    it reads the rules.
    """
    monkeypatch.setattr(rules, "LEAD", lead)
    choose = commissions._choose

    def slowly(*args):
        time.sleep(0.02)
        choose(*args)

    monkeypatch.setattr(commissions, "_choose", slowly)
    old = make_rule(10)
    new = rules.draft_replacement(old) if replacing else draft(percent=20, priority=1)
    partners = [make_partner() for _ in range(4)]
    over = threading.Event()

    def publish():
        try:
            time.sleep(0.2)
            with transaction.atomic():
                rules.publish(new)
                time.sleep(0.5)
            time.sleep(max(0, (new.published_on - timezone.now()).total_seconds()) + 0.2)
        finally:
            over.set()

    def work():
        mine = partners.pop() if partners else None
        if mine is None:
            publish()
        while mine is not None and not over.is_set():
            convert(mine)

    at_once(5, work)
    paid_by = set(Commission.objects.values_list("rule", flat=True))
    assert paid_by == {new.pk, old.pk}
    return list(audit.Audit().differences())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("replacing", [False, True])
def test_a_rule_that_is_published_amid_conversions_holds_from_one_moment_on(monkeypatch, replacing):
    lead = timedelta(seconds=6)
    assert publish_amid_conversions(monkeypatch, lead, replacing=replacing) == []


@pytest.mark.skipif(connection.vendor == "sqlite", reason="lets no two transactions write at once")
@pytest.mark.django_db(transaction=True)
def test_teeth_a_rule_that_holds_from_its_publication_on(monkeypatch):
    found = publish_amid_conversions(monkeypatch, timedelta(0), replacing=False)
    assert {each.kind for each in found} == {"rule"}
