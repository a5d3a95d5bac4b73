"""Who is credited: policies, shares, and the record that says why."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affiliations.decisions import Candidate, decide, explain, first, last
from affiliations.exceptions import InvalidShares
from affiliations.models import Callback, Conversion
from affiliations.money import Money
from affiliations.services import explain as explain_conversion
from affiliations.services import record_conversion, reverse_conversion
from affiliations.signals import conversion_recorded, conversion_reversed
from tests.core.factories import make_partner, make_user, make_visitor

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def candidates(number, **fields):
    return [
        Candidate(each, f"partner{each}", START + timedelta(days=each), "session", **fields)
        for each in range(1, number + 1)
    ]


def linear(eligible):
    return [(each, Fraction(1, len(eligible))) for each in eligible]


def test_last_and_first_give_one_share():
    for policy, winner in ((last, 3), (first, 1)):
        decision = decide(reversed(candidates(3)), policy.__name__, policy)
        assert decision.shares == [(winner, 1)]


def test_nobody_eligible_is_no_decision():
    assert decide([], "last", last) is None
    assert decide(candidates(2, dropped="inactive"), "last", last) is None


@given(st.integers(1, 50))
def test_the_shares_sum_to_one(number):
    decision = decide(candidates(number), "linear", linear)
    assert sum(share.weight for share in decision.shares) == 1
    assert all(share.weight > 0 for share in decision.shares)


@pytest.mark.parametrize(
    "answer",
    [
        lambda eligible: [],
        lambda eligible: [(eligible[0], Decimal("0.5"))],
        lambda eligible: [(eligible[0], 2), (eligible[1], -1)],
        lambda eligible: [(eligible[0], 1), (eligible[1], 0)],
        lambda eligible: [(eligible[0], Decimal("0.5")), (eligible[0], Decimal("0.5"))],
        lambda eligible: [(candidates(9)[8], 1)],
        lambda eligible: [(eligible[0], float("nan"))],
        lambda eligible: [(eligible[0], float("inf"))],
        lambda eligible: [(eligible[0], "a lot")],
        lambda eligible: [eligible[0]],
        lambda eligible: [(3, 1)],
    ],
)
def test_an_answer_that_cannot_be_credited_is_refused(answer):
    with pytest.raises(InvalidShares, match="the policy mine"):
        decide(candidates(2), "mine", answer)


def test_the_record_says_why():
    considered = [
        *candidates(2),
        Candidate(7, "seven", START, "user", dropped="not subscribed"),
        Candidate(8, "eight", START, "cookie", dropped="another user"),
    ]
    lines = explain(decide(considered, "last", last).record).splitlines()
    assert lines[0] == "The latest click earns the conversion."
    assert lines[1] == (
        "Visitor 7 of partner seven, who clicked on 2026-01-01 at 12:00 UTC, found as an earlier "
        "visit of the same user: not credited: the partner is not subscribed to this trigger."
    )
    assert lines[2].endswith("cookie: not credited: the visit belongs to another user.")
    assert lines[3].endswith("in the browser's session: not credited: another click won.")
    assert lines[4].endswith("found in the browser's session: credited.")
    assert len(lines) == 5
    assert explain({}) == "No record was kept."


# With the database


@pytest.mark.django_db
def test_each_partner_with_a_share_is_told_of_its_part(settings):
    settings.AFFILIATE_ATTRIBUTION = linear
    user = make_user()
    for _ in range(3):
        url = "https://p.example/?v={visitor_id}&a={amount}"
        make_visitor(make_partner({"Order placed": url}), user=user)
    conversion = record_conversion(
        trigger="Order placed", reference="1", user=user, money=Money(1000, "EUR")
    )
    weights = conversion.shares.values_list("weight", flat=True)
    assert sum(weights) == 1
    assert len(weights) == 3
    amounts = sorted(
        url.partition("&a=")[2] for url in Callback.objects.values_list("url", flat=True)
    )
    assert amounts == ["3.33", "3.33", "3.34"]
    assert "linear" in conversion.decision["policy"]
    assert explain_conversion(conversion).count("credited with 33.33%") == 3


@pytest.mark.django_db
def test_who_is_not_subscribed_or_has_no_deal_leaves_the_credit_to_others():
    user = make_user()
    subscribed = make_visitor(make_partner({"Order placed": ""}), user=user)
    make_visitor(make_partner(), user=user)
    make_visitor(make_partner({"Order placed": ""}, active=False), user=user)
    conversion = record_conversion(trigger="Order placed", reference="1", user=user)
    assert conversion.visitor == subscribed
    dropped = [each["dropped"] for each in conversion.decision["candidates"]]
    assert sorted(dropped) == ["", "inactive", "not subscribed"]


@pytest.mark.django_db
def test_a_failing_listener_is_undone_and_the_conversion_stands(caplog):
    user = make_user()
    make_visitor(make_partner({"Order placed": ""}), user=user)
    seen = []

    def fails(conversion, **kwargs):
        make_user("half done")
        raise RuntimeError("the ledger is closed")

    def works(conversion, **kwargs):
        seen.append(conversion.pk)

    conversion_recorded.connect(fails)
    conversion_recorded.connect(works)
    try:
        conversion = record_conversion(trigger="Order placed", reference="1", user=user)
    finally:
        conversion_recorded.disconnect(fails)
        conversion_recorded.disconnect(works)
    assert Conversion.objects.get() == conversion
    assert seen == [conversion.pk]
    assert "the ledger is closed" in caplog.text
    assert not type(user).objects.filter(username="half done").exists()


@pytest.mark.django_db
def test_a_conversion_is_taken_back_once():
    user = make_user()
    make_visitor(make_partner({"Order placed": ""}), user=user)
    conversion = record_conversion(trigger="Order placed", reference="1", user=user)
    told = []

    def tell(conversion, **kwargs):
        told.append(conversion)

    conversion_reversed.connect(tell)
    try:
        assert reverse_conversion(conversion) is True
        assert reverse_conversion(Conversion.objects.get()) is False
    finally:
        conversion_reversed.disconnect(tell)
    assert told == [conversion]
    assert Conversion.objects.standing().count() == 0
    assert record_conversion(trigger="Order placed", reference="1", user=user) is None


@pytest.mark.django_db
def test_a_callback_url_from_before_the_rules_is_given_up_and_the_conversion_counts():
    user = make_user()
    partner = make_partner({"Order placed": ""})
    partner.subscriptions.update(callback_url="https://p.example/{visitor_id.__class__}")
    make_visitor(partner, user=user)
    assert record_conversion(trigger="Order placed", reference="1", user=user)
    callback = Callback.objects.get()
    assert callback.state == "dead"
    assert "placeholder" in callback.reason or "brace" in callback.reason
