"""What is said of a campaign: held against a slow computation, row by row, of made-up worlds."""

import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import product
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.db import connection, models
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from affiliations.experiments import exposed, figures, publishing, statistics
from affiliations.experiments.exceptions import InvalidResults
from affiliations.experiments.figures import Reason, Verdict
from affiliations.experiments.goals import Goal, goals_of
from affiliations.experiments.models import Assignment, Variation
from affiliations.experiments.results import _Counted, results
from affiliations.experiments.statistics import Rates, Revenue
from affiliations.models import Conversion
from affiliations.tracking.models import EventType, Hit, Identity
from tests.core.factories import make_partner, make_user, make_visitor
from tests.experiments.factories import make_campaign
from tests.experiments.worlds import DAY, START, THREE, converted, crowd, did, saw, variations_of
from tests.tracking.factories import make_event_type, make_property, say

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def told(found):
    """Return the sums of results that have one group, by the names of its variations."""
    [group] = found.groups
    return {
        each.name: (
            each.visitors,
            each.rates.conversions,
            each.revenue.total if each.revenue else None,
        )
        for each in group.variations
    }


@pytest.fixture
def shop():
    return make_property()


@pytest.fixture
def campaign(shop):
    return make_campaign(shop, groups=[{"variations": THREE}])


# The slow way


def slowly(campaign, goal, *, since=None, until=None, days=None, partner=None):
    """Return who counts for what, as `_Counted` has it, by looking at each row of every table."""
    prop = campaign.property_id
    identities = {each.pk: each for each in Identity.objects.filter(property=prop)}
    people = {(each.kind, each.value): each.customer_id for each in identities.values()}
    rows = defaultdict(list)
    for each in Assignment.objects.filter(campaign=campaign):
        rows[each.group_id, identities[each.identity_id].customer_id].append(each)
    done = defaultdict(list)
    for person, moment, currency, minor in deeds(prop, goal, identities, people):
        done[person].append((moment, currency, minor))
    found = {
        "visitors": Counter(),
        "mixed": Counter(),
        "conversions": Counter(),
        "versions": defaultdict(Counter),
        "times": defaultdict(Counter),
        "spent": defaultdict(Counter),
    }
    for (group, person), theirs in rows.items():
        known = [each for each in theirs if each.is_mixed or each.exposed_on]
        if until is not None:
            known = [
                each
                for each in known
                if each.is_mixed or (each.exposed_on and each.exposed_on < until)
            ]
        moments = [each.exposed_on for each in known if each.exposed_on]
        if not moments:
            continue
        first = min(moments)
        if (since and first < since) or (until and first >= until):
            continue
        sent_by = {each.partner_id for each in known if each.exposed_on == first}
        if partner is not None and partner.pk not in sent_by:
            continue
        if len({each.variation_id for each in known}) > 1 or any(e.is_mixed for e in known):
            found["mixed"][group] += 1
            continue
        variation = known[0].variation_id
        found["visitors"][variation] += 1
        found["versions"][group][min(each.version for each in known)] += 1
        last = [each for each in (until, days and first + days * DAY) if each]
        counts = [
            each
            for each in done[person]
            if first <= each[0] and all(each[0] < moment for moment in last)
        ]
        found["conversions"][variation] += bool(counts)
        for currency in {each[1] for each in counts} - {""}:
            amounts = [each[2] for each in counts if each[1] == currency]
            found["times"][group][currency] += len(amounts)
            found["spent"][variation, currency][sum(amounts)] += 1
    return found


def deeds(prop, goal, identities, people):
    """Yield whoever has reached a goal, when, and for how much."""
    kind, _, name = goal.partition(":")
    if kind == "trigger":
        for each in Conversion.objects.select_related("visitor"):
            # Not by the database, to which other names may be equal.
            if each.trigger != name:
                continue
            user = each.user_id or each.visitor.user_id
            person = people.get(("user", str(user))) or people.get(("cookie", each.visitor.ident))
            if person and not each.reversed_on:
                minor = (each.amount_minor or 0) - each.reversed_minor
                yield person, each.created_on, each.currency, minor
        return
    keys = {each.pk: each.key for each in EventType.objects.filter(property=prop)}
    for each in Hit.objects.filter(property=prop, type=kind, is_informational=False):
        called = keys.get(each.event_type_id, each.title) if kind == "event" else each.title
        if name in ("", called):
            person = identities[each.identity_id].customer_id
            yield person, each.happened_on, each.currency, each.minor or 0


GOALS = ("trigger:Order placed", "event:signup", "event:Basket", "transaction", "transaction:Shop")


@pytest.fixture(params=[1, 2, 3])
def world(request, shop):
    """People of several names, some of whom have seen two variations, and what they did."""
    dice = random.Random(request.param)
    campaign = make_campaign(
        shop, groups=[{"name": name, "variations": THREE} for name in ("Gold", "All")]
    )
    groups = defaultdict(list)
    for each in Variation.objects.filter(group__campaign=campaign).select_related("group"):
        each.group.campaign = campaign
        groups[each.group_id].append(each)
    partners = [make_partner(), make_partner()]
    signup = make_event_type(shop, "signup")
    make_event_type(shop, "other")
    elsewhere = make_property()
    everybody = []
    for number in range(70):
        user = make_user() if dice.random() < 0.6 else None
        who = [f"cookie:c{number}", f"client:v{number}", f"client:w{number}"][: dice.randint(1, 3)]
        who += [f"user:{user.pk}"] if user else []
        for prop in (shop, elsewhere):
            say(prop, " ".join(who))
        everybody.append((who, user))
        for variations in groups.values():
            usual = dice.choice(variations)
            for each in who[: dice.choice([0, 1, 1, 2, 3, 4])]:
                saw(
                    dice.choice(variations) if dice.random() < 0.05 else usual,
                    each,
                    dice.randrange(80) / 8,
                    version=dice.choice([1, 1, 2]),
                    partner=dice.choice([None, *partners]),
                    is_mixed=dice.random() < 0.03,
                    **({"exposed_on": None} if dice.random() < 0.15 else {}),
                )
    amounts = [0, 1, 500, 500, 2500, 10**6, 2**62, 2**63 - 1]
    for _ in range(500):
        who, user = dice.choice(everybody)
        day = dice.randrange(-8, 120) / 8
        money = dice.choice([{}, {"minor": dice.choice(amounts), "currency": "EUR"}])
        if dice.random() < 0.2:
            money = {"minor": -dice.choice(amounts), "currency": "JPY"}
        if dice.random() < 0.4:
            amount = (
                {"amount_minor": abs(money["minor"]), "currency": money["currency"]}
                if money
                else {}
            )
            if money and amount["amount_minor"] > 9 and dice.random() < 0.3:
                amount["reversed_minor"] = dice.randrange(1, amount["amount_minor"])
            if dice.random() < 0.15:
                amount["reversed_on"] = timezone.now()
            ident = dice.choice(["", *(each[7:] for each in who if each.startswith("cookie:"))])
            visitor = make_visitor(partners[0], ident=ident, user=dice.choice([None, user]))
            converted(
                day,
                user=dice.choice([None, user]),
                visitor=visitor,
                trigger=dice.choice(["Order placed", "Order placed", "order placed"]),
                **amount,
            )
            continue
        kind = dice.choice(["event", "event", "transaction", "pageview"])
        fields = {"title": dice.choice(["Shop", "Basket", "basket", "signup"])}
        if kind == "event":
            fields["event_type_id"] = dice.choice([None, signup.pk, signup.pk + 1])
        where = dice.choice([shop, shop, shop, shop, elsewhere])
        did(
            where,
            dice.choice(who),
            day,
            kind,
            is_informational=dice.random() < 0.1,
            **fields,
            **money,
        )
    return campaign, partners


def questions(campaign, partners):
    """Yield what is asked of a world: each goal, within each time, of everybody or a partner's."""
    times = [
        {},
        {"since": START + 2 * DAY, "until": START + 8 * DAY + HOUR},
        {"until": START + 5 * DAY},
        {"days": 2},
    ]
    for goal, within, partner in product(GOALS, times, [None, partners[1]]):
        yield goal, {**within, "partner": partner}


def differing(campaign, partners):
    """Yield the questions to which SQL has another answer than the slow way."""
    for goal, asked in questions(campaign, partners):
        if quickly(campaign, goal, asked) != plain(slowly(campaign, goal, **asked)):
            yield goal, asked


def quickly(campaign, goal, asked):
    partner = asked.get("partner")
    rows = exposed.found(
        exposed.Asked(
            campaign.pk,
            campaign.property_id,
            Goal.of(goal),
            asked.get("since"),
            asked.get("until"),
            asked.get("days"),
            partner and partner.pk,
        ),
        "default",
    )
    return plain(vars(_Counted(rows)))


def plain(found):
    """Return what was counted as dictionaries without any zeros."""
    if isinstance(found, dict):
        return {key: plain(each) for key, each in found.items() if plain(each)}
    return found


def test_the_sums_are_those_of_a_slow_look_at_each_row(world):
    campaign, partners = world
    assert list(differing(campaign, partners)) == []
    # And there was something to be told apart.
    found = slowly(campaign, "transaction", until=START + 8 * DAY)
    assert found["mixed"].total() > 5
    assert found["visitors"].total() > 50
    assert found["conversions"].total() > 10
    assert max(max(each) for each in found["spent"].values()) >= 2**62


BROKEN = {
    "names, not people": ("BY a.group_id, i.customer_id", "BY a.group_id, i.customer_id, i.id"),
    "what they did before": ("d.happened_on >= s.exposed_on", "1 = 1"),
    "also who has seen two": ("OR MIN(a.variation_id) <> MAX(a.variation_id)", ""),
    "also who is marked": ("THEN 1 ELSE 0 END) = 1", "THEN 0 ELSE 0 END) = 1"),
    "each time a visitor": ("CASE WHEN place = 1 THEN 1 ELSE 0 END", "1"),
    "what counts for nothing": ("AND NOT h.is_informational", ""),
    "what was taken back whole": ("AND c.reversed_on IS NULL", ""),
    "what was taken back in part": ("- c.reversed_minor", ""),
    "users alone": ("COALESCE(u.customer_id, k.customer_id)", "u.customer_id"),
    "cookies alone": ("COALESCE(u.customer_id, k.customer_id)", "k.customer_id"),
    "whose visit it was alone": ("COALESCE(c.user_id, v.user_id)", "v.user_id"),
    "another event of this title": ("h.event_type_id IS NULL AND ", ""),
    "the last time that it was seen": ("MIN(a.exposed_on) AS", "MAX(a.exposed_on) AS"),
    "whoever has sent them at any time": ("= MIN(a.exposed_on)", "IS NOT NULL"),
    "who has seen it before": ("MIN(a.exposed_on) >= %s", "MAX(a.exposed_on) >= %s"),
    "what was given and not seen": (" OR a.is_mixed)", " OR 1 = 1)"),
}


@pytest.mark.parametrize("world", [1], indirect=True)
def test_the_worlds_tell_faults(world, monkeypatch):
    statement = exposed._statement
    untold = []
    for name, fault in BROKEN.items():

        def broken(asked, using, fault=fault):
            made = statement(asked, using)
            return made._replace(text=made.text.replace(*fault))

        monkeypatch.setattr(exposed, "_statement", broken)
        if not any(differing(*world)):
            untold.append(name)
    assert untold == []


# What is said of the sums


def test_a_world_by_hand(shop, campaign, django_assert_num_queries):
    original, blue, green = variations_of(campaign).values()
    user = make_user()
    say(shop, f"cookie:a client:a user:{user.pk}")
    for each in ("cookie:b", "cookie:c", "cookie:d", "client:e client:f"):
        say(shop, each)
    # One person by two names, from the first time on that they saw it.
    saw(original, "client:a", 2)
    saw(original, "cookie:a", 1)
    saw(blue, "cookie:b", 1)
    saw(blue, "cookie:c", 1)
    # Given, and never seen.
    saw(green, "cookie:d", 1, exposed_on=None)
    # Two variations, by two names.
    saw(blue, "client:e", 1)
    saw(green, "client:f", 3)
    did(shop, "client:a", 0.5, minor=1, currency="EUR")
    did(shop, "client:a", 1, minor=2000, currency="EUR")
    did(shop, "client:a", 5, minor=400, currency="EUR")
    did(shop, "client:a", 5, minor=9, currency="JPY")
    did(shop, "cookie:b", 2)
    did(shop, "client:e", 2, minor=10**6, currency="EUR")
    with django_assert_num_queries(3):
        found = results(campaign, "transaction")
    assert told(found) == {"Original": (1, 1, 2400), "Blue": (2, 1, 0), "Green": (0, 0, 0)}
    [group] = found.groups
    assert (group.mixed, group.visitors) == (1, 3)
    assert group.other_currencies == {"JPY": 1}
    assert found.currency == "EUR"
    assert found.suggested_cap == 2400
    assert told(results(campaign, "transaction", cap=1000))["Original"] == (1, 1, 1000)
    assert told(results(campaign, "transaction", currency="JPY"))["Original"] == (1, 1, 9)
    assert told(results(campaign, "transaction", days=4))["Original"] == (1, 1, 2000)
    # Whoever saw it before is not looked at, and what somebody saw after has not happened yet.
    later = results(campaign, "transaction", since=START + 2 * DAY)
    assert told(later) == {"Original": (0, 0, None), "Blue": (0, 0, None), "Green": (0, 0, None)}
    earlier = results(campaign, "transaction", until=START + 3 * DAY)
    assert told(earlier)["Blue"] == (3, 2, 10**6)
    assert earlier.groups[0].mixed == 0


def test_sums_may_be_larger_than_any_amount(shop, campaign):
    original = variations_of(campaign)["Original"]
    say(shop, "cookie:a")
    saw(original, "cookie:a", 1)
    for _ in range(3):
        did(shop, "cookie:a", 2, minor=2**63 - 1, currency="EUR")
    found = results(campaign, "transaction")
    assert told(found)["Original"] == (1, 1, 3 * (2**63 - 1))
    assert found.suggested_cap == 3 * (2**63 - 1)
    assert told(results(campaign, "transaction", cap=2**63 - 1))["Original"][2] == 2**63 - 1


def test_a_cap_is_suggested_that_99_of_100_are_below(shop, campaign):
    crowd(shop, campaign, {"Original": (98, 98, 100)})
    crowd(shop, campaign, {"Blue": (1, 1, 700), "Green": (1, 1, 900)})
    crowd(shop, campaign, {"Green": (50, 50, 0)})
    assert results(campaign, "transaction").suggested_cap == 700
    crowd(shop, campaign, {"Original": (1, 1, 800)})
    assert results(campaign, "transaction").suggested_cap == 800
    assert results(campaign, "event:nothing").suggested_cap is None


def test_a_refund_takes_back_what_it_takes_back(shop, campaign):
    original = variations_of(campaign)["Original"]
    user = make_user()
    say(shop, f"user:{user.pk}")
    saw(original, f"user:{user.pk}", 1)
    money = {"currency": "EUR", "user": user}
    whole = converted(2, amount_minor=5000, **money)
    converted(2, amount_minor=700, reversed_minor=200, **money)
    assert told(results(campaign, "trigger:Order placed"))["Original"] == (1, 1, 5500)
    whole.reversed_on, whole.reversed_minor = START, 5000
    whole.save()
    assert told(results(campaign, "trigger:Order placed"))["Original"] == (1, 1, 500)
    # To the letter, whatever the database takes for equal.
    assert told(results(campaign, "trigger:order placed"))["Original"] == (1, 0, None)
    assert told(results(campaign, "trigger:Order placed "))["Original"] == (1, 0, None)


def test_who_somebody_is_may_turn_out_later(shop, campaign):
    original = variations_of(campaign)["Original"]
    user = make_user()
    say(shop, "cookie:abc")
    saw(original, "cookie:abc", 1)
    converted(2, user=user)
    assert told(results(campaign, "trigger:Order placed"))["Original"][:2] == (1, 0)
    say(shop, f"cookie:abc user:{user.pk}")
    assert told(results(campaign, "trigger:Order placed"))["Original"][:2] == (1, 1)


def test_a_user_whose_key_is_a_uuid_is_found_by_it(monkeypatch):
    key = UUID("01234567-89ab-4def-8123-456789abcdef")
    pk = models.UUIDField(primary_key=True)
    monkeypatch.setattr(
        exposed, "get_user_model", lambda: SimpleNamespace(_meta=SimpleNamespace(pk=pk))
    )
    with connection.cursor() as cursor:
        text = f"SELECT {exposed._user('u.id', 'default')} FROM (SELECT %s AS id) u"
        cursor.execute(text, [pk.get_db_prep_value(key, connection)])
        assert cursor.fetchone() == (str(key),)


def test_the_figures_are_those_of_the_sums(shop, campaign):
    crowd(
        shop, campaign, {"Original": (400, 40, 500), "Blue": (310, 93, 400), "Green": (290, 30, 0)}
    )
    found = results(campaign, "transaction", level=0.9)
    [group] = found.groups
    assert told(found) == {
        "Original": (400, 40, 20000),
        "Blue": (310, 93, 37200),
        "Green": (290, 30, 0),
    }
    original, blue, green = group.variations
    base, arm, other = Rates(400, 40), Rates(310, 93), Rates(290, 30)
    assert original.rates.rate == statistics.conversion_rate(base, level=0.9)
    assert blue.rates.uplift == statistics.rate_uplift(arm, base, level=0.9)
    assert blue.rates.beats == statistics.rate_beats(arm, base)
    assert [each.rates.best for each in group.variations] == [
        *statistics.rate_best([base, arm, other])
    ]
    # Two comparisons: each at a level by which both together hold what one promises.
    assert blue.rates.look == statistics.watch_rates(arm, base, level=0.95)
    assert original.rates.missing == dict.fromkeys(("uplift", "beats", "look"), Reason.IS_REFERENCE)
    sums = [Revenue(400, 20000, 10**7), Revenue(310, 37200, 93 * 160_000), Revenue(290, 0, 0)]
    assert blue.revenue.mean == statistics.mean_revenue(sums[1], level=0.9)
    assert blue.revenue.uplift == statistics.revenue_uplift(sums[1], sums[0], level=0.9)
    assert blue.revenue.beats == statistics.revenue_beats(sums[1], sums[0])
    assert blue.revenue.look == statistics.watch_revenue(sums[1], sums[0], level=0.95)
    # Nobody has spent anything on green, by which none of them can be the best for sure.
    assert green.revenue.missing["mean"] is Reason.NO_SPREAD
    assert green.revenue.missing["uplift"] is Reason.NO_SPREAD
    assert [each.revenue.best for each in group.variations] == [None] * 3
    assert group.expected == (400.0, 300.0, 300.0)
    assert group.sample_ratio == statistics.sample_ratio([400, 310, 290], [4, 3, 3])
    assert group.verdict is Verdict.DECIDED


def test_shares_that_changed_are_expected_as_they_were(shop, campaign):
    crowd(shop, campaign, {"Original": (400, 0, 0), "Blue": (300, 0, 0), "Green": (300, 0, 0)})
    for name, share in (("Original", 10), ("Blue", 80), ("Green", 10)):
        Variation.objects.filter(group__campaign=campaign, name=name).update(allocation=share)
    publishing.publish(campaign=campaign)
    later = {"Original": (100, 0, 0), "Blue": (800, 0, 0), "Green": (100, 0, 0)}
    crowd(shop, campaign, later, version=2)
    [group] = results(campaign, "transaction").groups
    assert group.expected == (500.0, 1100.0, 400.0)
    assert group.sample_ratio.p == 1
    # By the shares of today alone it would be one.
    assert statistics.sample_ratio([500, 1100, 400], [10, 80, 10]).is_mismatch


def test_nothing_is_said_where_visitors_were_shared_out_wrongly(shop, campaign):
    crowd(shop, campaign, {"Original": (400, 5, 0), "Blue": (600, 300, 0), "Green": (300, 100, 0)})
    [group] = results(campaign, "transaction").groups
    assert group.sample_ratio.is_mismatch
    assert group.verdict is Verdict.MISMATCH


def test_of_an_unknown_version_nothing_is_expected(shop, campaign):
    crowd(shop, campaign, {"Original": (40, 0, 0), "Blue": (60, 0, 0)}, version=7)
    [group] = results(campaign, "transaction").groups
    assert (group.expected, group.sample_ratio) == (None, None)
    assert group.missing == {"sample_ratio": Reason.NO_SHARES}


def test_it_is_said_why_there_is_no_figure(shop):
    campaign = make_campaign(shop)
    [group] = results(campaign, "transaction").groups
    blue = group.variations[1]
    assert dict(blue.rates.missing) == dict.fromkeys(
        ("rate", "best", "uplift", "beats", "look"), Reason.NOBODY
    )
    assert (blue.rates.rate, blue.rates.best, blue.revenue) == (None, None, None)
    assert group.missing == {"sample_ratio": Reason.NOBODY}
    assert (group.verdict, group.revenue_verdict) == (Verdict.TOO_EARLY, None)
    crowd(shop, campaign, {"Original": (50, 3, 0), "Blue": (50, 4, 700)})
    [group] = results(campaign, "transaction").groups
    blue = group.variations[1]
    assert blue.rates.missing == {"look": Reason.TOO_EARLY}
    assert blue.revenue.missing["uplift"] is Reason.NO_BASE
    Variation.objects.filter(group__campaign=campaign).update(is_reference=False)
    [group] = results(campaign, "transaction").groups
    assert group.variations[1].rates.missing["uplift"] is Reason.NO_REFERENCE
    assert group.verdict is Verdict.NO_REFERENCE
    alone = make_campaign(shop, groups=[{"variations": THREE[:1]}])
    crowd(shop, alone, {"Original": (50, 3, 0)})
    [group] = results(alone, "transaction").groups
    assert group.variations[0].rates.missing["best"] is Reason.ALONE
    assert group.missing == {"sample_ratio": Reason.ALONE}
    assert group.verdict is Verdict.NOTHING_TO_COMPARE


def test_a_draft_is_not_told_and_what_was_retired_is(shop):
    campaign = make_campaign(shop)
    group = campaign.groups.get()
    Variation.objects.filter(group=group, name="Blue").update(retired=True)
    Variation.objects.create(group=group, name="Draft", allocation=50, position=9)
    [found] = results(campaign, "transaction").groups
    assert [(each.name, each.is_retired) for each in found.variations] == [
        ("Original", False),
        ("Blue", True),
    ]


def test_of_many_comparisons_each_has_to_be_surer():
    arms = [Rates(1000, 100), Rates(1000, 160)]
    alone = figures.of_rates(arms, 0, 0.95)
    assert figures.verdict(alone, reference=0, is_mismatch=False) is Verdict.DECIDED
    among = figures.of_rates([*arms, *[Rates(1000, 100)] * 8], 0, 0.95)
    assert among[1].look.p == alone[1].look.p
    assert figures.verdict(among, reference=0, is_mismatch=False) is Verdict.UNDECIDED


COUNTS = st.integers(0, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(st.lists(COUNTS, min_size=1, max_size=4), st.integers(-1, 3), st.floats(0.5, 0.999))
def test_every_figure_is_there_or_it_is_said_why_not(counts, place, level):
    reference = place if 0 <= place < len(counts) else None
    arms = [Rates(*each) for each in counts]
    sums = [Revenue(each, won * 7, won * 49) for each, won in arms]
    for found in (
        figures.of_rates(arms, reference, level),
        figures.of_revenue(sums, reference, level),
    ):
        for each in found:
            names = {name for name in type(each).__slots__ if getattr(each, name) is None}
            assert names == each.missing.keys()
        said = figures.verdict(found, reference=reference, is_mismatch=False)
        looks = [each.look for each in found if each.look]
        assert (said is Verdict.DECIDED) == any(each.low > 0 or each.high < 0 for each in looks)


# What is asked


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"goal": "nothing"}, "goal: must be trigger:<name>"),
        ({"goal": "event:"}, "goal: must be trigger:<name>"),
        ({"goal": "event:\0"}, "goal: must be text without"),
        ({"goal": "event:\ud800"}, "goal: must be text without"),
        ({"goal": 7}, "goal: must be text"),
        ({"goal": f"event:{'x' * 501}"}, "goal: must have at most 500"),
        ({"since": "2026-03-01"}, "since: must be a datetime, not str"),
        ({"until": datetime(2026, 3, 1)}, "until: must be an aware datetime"),  # noqa: DTZ001
        ({"since": START, "until": START}, "until: must be later"),
        ({"days": 0}, "days: must be a whole number"),
        ({"days": True}, "days: must be a whole number"),
        ({"days": 3651}, "days: must be a whole number"),
        ({"level": 1}, "level: must be a number"),
        ({"level": float("nan")}, "level: must be a number"),
        ({"level": "0.9"}, "level: must be a number"),
        ({"currency": "eur"}, "currency: must be an ISO 4217 code"),
        ({"currency": ["EUR"]}, "currency: must be an ISO 4217 code"),
        ({"cap": 0}, "cap: must be a whole number"),
        ({"cap": 1.5}, "cap: must be a whole number"),
        ({"partner": 1}, "partner: must be a Partner"),
    ],
)
def test_what_cannot_be_asked_is_refused(campaign, asked, message):
    with pytest.raises(InvalidResults, match=f"^{message}"):
        results(campaign, **{"goal": "transaction", **asked})
    assert issubclass(InvalidResults, ValueError)


def test_a_site_without_time_zones_is_asked_by_naive_moments(campaign, settings):
    settings.USE_TZ = False
    with pytest.raises(InvalidResults, match=r"^since: must be a naive datetime"):
        results(campaign, "transaction", since=START)


def test_the_goals_that_there_are(shop, campaign, django_assert_num_queries):
    say(shop, "cookie:a")
    signup = make_event_type(shop, "signup", name="Signed up")
    make_event_type(make_property(), "elsewhere")
    did(shop, "cookie:a", 1, "event", event_type=signup, title="Not its name")
    for title in ("Basket", "Basket", ""):
        did(shop, "cookie:a", 1, "event", title=title)
    did(shop, "cookie:a", 1, "transaction", title="Shop")
    did(shop, "cookie:a", 1, "pageview", title="Home")
    converted(1, trigger="Order placed")
    converted(1, trigger="By hand")
    with django_assert_num_queries(3):
        found = goals_of(campaign)
    texts = [str(each) for each in found]
    assert texts[:2] == ["trigger:User registered", "trigger:Order placed"]
    assert texts[texts.index("trigger:By hand") + 1 :] == [
        "event:signup",
        "transaction",
        "event:Basket",
        "transaction:Shop",
    ]
    assert len(set(texts)) == len(texts)
    assert next(each.label for each in found if each.name == "signup") == "Signed up"
    assert [str(Goal.of(each)) for each in texts] == texts
