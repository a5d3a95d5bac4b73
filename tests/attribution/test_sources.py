"""Hits, visits and clicks are one relation, and so are the people whose they are."""

import pytest
from django.db import connection

from affiliations import attribution
from affiliations.attribution import sources
from affiliations.attribution.questions import MODELS
from affiliations.attribution.sources import CONVERSIONS, DIMENSIONS, TOUCHPOINTS
from affiliations.models import Visitor
from affiliations.money import Money
from affiliations.services import reverse_conversion
from tests.attribution.factories import DAY, START, by_label, converted, touched
from tests.core.factories import make_partner, make_user, make_visitor
from tests.links.factories import make_link, make_transaction
from tests.tracking.factories import hit, make_property, say

pytestmark = pytest.mark.django_db

MARCH = (START, START + 31 * DAY)
SECOND = DAY / 86_400
MICROSECOND = SECOND / 1_000_000


def rows(found, columns):
    return [dict(zip(columns, row, strict=True)) for batch in found.batches() for row in batch]


def touchpoints(since=MARCH[0], until=MARCH[1], of=None):
    """Return what there is, without what is empty, the earliest first."""
    found = rows(sources.touchpoints(since, until, of), TOUCHPOINTS)
    found.sort(key=lambda row: (row["touched_at"], row["touch"]))
    return [{name: value for name, value in row.items() if value is not None} for row in found]


def conversions(since=MARCH[0], until=MARCH[1], trigger=""):
    return rows(sources.conversions(since, until, trigger), CONVERSIONS)


def visit(partner=None, on=START, last=None, **fields):
    """Return a visit that began at a moment; `last` is its last click's."""
    visitor = make_visitor(partner, **fields)
    Visitor.objects.filter(pk=visitor.pk).update(referred_on=on, clicked_on=last or on)
    return visitor


def person_of(found):
    [row] = found
    return row["person"]


def test_a_hit_a_visit_and_a_click_are_rows_of_one_kind():
    prop, partner, link = make_property(), make_partner(), make_link(partner=make_partner())
    customer = say(prop, "cookie:a")
    touched(prop, "cookie:a", "google", 1, partner_id=partner.pk)
    subs = {f"sub{n}": f"value {n}" for n in range(1, 6)}
    visitor = visit(
        partner,
        START + 2 * DAY + MICROSECOND,
        ident="a",
        sub_ids=subs,
        referrer_host="blog.example",
    )
    # Of some networks' numbers JSON makes numbers.
    sent = visit(link.partner, START - 9 * DAY, sub_ids={"sub2": 7})
    at = START + 3 * DAY
    click = make_transaction(link, ident="a", visitor=sent, created_on=at, clicked_on=at)

    brought, visited, clicked = touchpoints()

    begin = sources.microseconds(START)
    day = 86_400_000_000
    assert brought.pop("touch") % 8 == 0
    assert brought.pop("who") % 8 == 0
    assert brought == {
        "person": f"c{customer.pk}",
        "touched_at": begin + day,
        "is_hit": 1,
        "partner": partner.uid,
        "channel": "paid_search",
        "source": "google",
        "medium": "cpc",
    }
    assert visited == {
        "person": f"c{customer.pk}",
        "who": visitor.pk * 8 + 1,
        "touch": visitor.pk * 8 + 1,
        "touched_at": begin + 2 * day + 1,
        "is_hit": 0,
        "partner": partner.uid,
        "channel": "affiliate",
        "source": "blog.example",
        **subs,
    }
    assert clicked == {
        "person": f"c{customer.pk}",
        "who": click.pk * 8 + 3,
        "touch": click.pk * 8 + 3,
        "touched_at": begin + 3 * day,
        "is_hit": 0,
        "partner": link.partner.uid,
        "link": link.path,
        "channel": "affiliate",
        "sub2": "7",
    }


@pytest.mark.parametrize(
    ("apart", "last", "number"),
    [
        (SECOND * 0, None, 1),
        (SECOND * 59, None, 1),
        (-SECOND * 59, None, 1),
        (SECOND * 61, None, 2),
        # The last click of the visit is the link's, and its first one is not.
        (DAY, DAY, 2),
    ],
)
def test_a_visit_and_the_click_of_it_are_one(apart, last, number):
    link = make_link(partner=make_partner())
    visitor = visit(link.partner, START + DAY, START + DAY + (last or 0 * DAY))
    at = START + DAY + apart
    make_transaction(link, visitor=visitor, created_on=at, clicked_on=at)
    found = touchpoints()
    assert len(found) == number
    assert [row.get("link") for row in found].count(link.path) == 1


@pytest.mark.parametrize(("later", "number"), [(SECOND, 1), (SECOND + MICROSECOND, 2), (DAY, 2)])
def test_the_last_click_is_a_touchpoint_of_its_own(later, number):
    link = make_link(partner=make_partner())
    visit(link.partner, START, START + later)
    make_transaction(link, created_on=START, clicked_on=START + later)
    found = touchpoints()
    assert len(found) == 2 * number
    assert len({row["touch"] for row in found}) == 2 * number
    assert len({row["who"] for row in found}) == 2


def test_the_window_has_its_beginning_and_not_its_end():
    first, last = START + DAY, START + 2 * DAY
    prop = make_property()
    for at in (first - MICROSECOND, first, last - MICROSECOND, last):
        hit(prop, "cookie:a", url="https://shop.example/?utm_source=a", happened_on=at)
        visit(None, at)
        make_transaction(created_on=at, clicked_on=at)
        user = make_user()
        converted(prop, user, (at - START) / DAY)
    begin, end = sources.microseconds(first), sources.microseconds(last)
    found = [row["touched_at"] for row in touchpoints(first, last)]
    assert found == [begin] * 3 + [end - 1] * 3
    sold = sorted(row["converted_at"] for row in conversions(first, last))
    assert sold == [begin, end - 1]


def test_whoever_the_tracking_knows_is_its_customer():
    prop, user, other = make_property(), make_user(), make_user()
    customer = say(prop, f"user:{user.pk} cookie:known")
    for fields in ({"user": user}, {"ident": "known"}, {"user": user, "ident": "else"}):
        assert person_of(_only(visit, **fields)) == f"c{customer.pk}"
        assert person_of(_only(make_transaction, created_on=START, **fields)) == f"c{customer.pk}"
    assert person_of(_only(visit, user=other)) == f"u{other.pk}"
    assert person_of(_only(visit, user=other, ident="else")) == f"u{other.pk}"
    assert person_of(_only(visit, ident="else")) == "ielse"
    visitor = visit()
    assert person_of(touchpoints()) == f"v{visitor.pk}"


def _only(make, **fields):
    """Return the touchpoints of a row that is made, and then gone."""
    if make is make_transaction:
        fields["clicked_on"] = fields["created_on"]
    row = make(**fields)
    found = touchpoints()
    row.delete()
    return found


def test_of_other_properties_nothing_is_known(settings):
    own, other, user = make_property(public_key="OWN"), make_property(), make_user()
    settings.AFFILIATE_TRACKING_PROPERTY = "OWN"
    customer = say(own, f"user:{user.pk}")
    say(other, "cookie:a")
    touched(own, f"user:{user.pk}", "google", 1)
    touched(other, "cookie:a", "bing", 2)
    visit(ident="a", on=START + 3 * DAY)
    assert [row["person"] for row in touchpoints()] == [f"c{customer.pk}", "ia"]


def test_which_hits_brought_somebody():
    prop = make_property(origins=["https://shop.example"])
    page = "https://shop.example/"
    hit(prop, "cookie:a", url=f"{page}?utm_source=a&utm_medium=email", happened_on=START)
    # By themselves, and then from page to page.
    hit(prop, "cookie:a", url=page, happened_on=START + SECOND)
    hit(prop, "cookie:a", url=f"{page}2", referrer=page, happened_on=START + 2 * SECOND)
    hit(prop, "cookie:a", url=page, is_informational=True, happened_on=START + 3 * SECOND)
    hit(prop, "cookie:a", type="item", url=page, happened_on=START + 4 * SECOND)
    assert [row["channel"] for row in touchpoints()] == ["email", "direct"]


def test_what_a_conversion_is_worth():
    prop, user = make_property(), make_user()
    whole = converted(prop, user, 1, minor=1000, currency="EUR")
    part = converted(prop, user, 2, minor=1000, currency="EUR")
    none = converted(prop, user, 3)
    other = converted(prop, user, 4, minor=5, currency="JPY", trigger="Signed up")
    reverse_conversion(whole)
    reverse_conversion(part, Money(300, "EUR"))
    found = {row["conversion"]: (row["amount_minor"], row["currency"]) for row in conversions()}
    assert found == {part.pk: (700, "EUR"), none.pk: (None, None), other.pk: (5, "JPY")}
    [row] = conversions(trigger="Signed up")
    assert (row["conversion"], row["trigger"], row["who"] % 8) == (other.pk, "Signed up", 5)
    assert len({row["person"] for row in conversions()}) == 1


def test_of_those_who_converted_alone():
    prop, buyer, friend = make_property(), make_user(), make_user()
    say(prop, f"user:{buyer.pk} cookie:a")
    say(prop, f"user:{friend.pk} cookie:b")
    for who in "ab":
        touched(prop, f"cookie:{who}", "google", 1)
        visit(ident=who, on=START + 2 * DAY)
        make_transaction(ident=who, created_on=START + 3 * DAY, clicked_on=START + 3 * DAY)
    # Nobody of whom the tracking knows, and whose name begins like a customer's number.
    make_transaction(ident="c", created_on=START, clicked_on=START)
    converted(prop, buyer, 5)
    sold = sources.conversions(*MARCH)
    found = touchpoints(of=sold)
    assert len(touchpoints()) == 7
    assert len(found) == 3
    assert {row["person"] for row in found} == {row["person"] for row in conversions()}


@pytest.mark.parametrize("absent", [{"tracking"}, {"links"}, {"tracking", "links"}])
def test_apps_that_are_not_installed_are_not_asked(monkeypatch, absent):
    prop, user = make_property(), make_user()
    say(prop, f"user:{user.pk}")
    touched(prop, f"user:{user.pk}", "google", 1)
    visit(user=user, on=START + 2 * DAY)
    make_transaction(user=user, created_on=START + 3 * DAY, clicked_on=START + 3 * DAY)
    converted(prop, user, 5)
    all_three, there = touchpoints(), sources.sibling
    monkeypatch.setattr(
        sources, "sibling", lambda app, name: None if app in absent else there(app, name)
    )
    found = touchpoints()
    assert len(all_three) == 3
    assert len(found) == 3 - len(absent)
    # They are one person still, who converted.
    [person] = {row["person"] for row in found}
    assert person[0] == ("u" if "tracking" in absent else "c")
    assert [row["person"] for row in conversions()] == [person]
    assert attribution.attribute("linear", since=START, until=MARCH[1]).num_rows > 0


@pytest.mark.parametrize("by", DIMENSIONS)
def test_whatever_is_told_apart_the_engines_say_the_same(by):
    prop, link = make_property(), make_link(partner=make_partner())
    for number in range(3):
        user = make_user()
        say(prop, f"user:{user.pk} cookie:c{number}")
        told = f"utm_source={'abc'[number]}&utm_medium=email&utm_campaign=number-{number}"
        hit(
            prop,
            f"cookie:c{number}",
            url=f"https://shop.example/?{told}",
            happened_on=START + DAY,
        )
        sent = visit(
            make_partner(),
            START + 2 * DAY,
            user=user,
            sub_ids={f"sub{n}": f"{n}-{number}" for n in range(1, 6)},
            referrer_host=f"blog-{number}.example",
        )
        if number:
            at = START + 3 * DAY
            make_transaction(link, user=user, visitor=sent, created_on=at, clicked_on=at)
            converted(prop, user, 4 + number, minor=1001 * number, currency="EUR")
    asked = {"since": START, "until": MARCH[1], "by": by, "lead": "Signed up"}
    found = attribution.attribute(MODELS, **asked)
    linear = by_label(found, model="linear")
    assert sum(linear.values()) == pytest.approx(2)
    assert len(linear) >= 2
    if connection.vendor in ("sqlite", "postgresql"):
        for ours, theirs in zip(
            found.to_pylist(),
            attribution.attribute(MODELS, engine="database", **asked).to_pylist(),
            strict=True,
        ):
            for name in ("conversions", "effect"):
                assert ours.pop(name) == pytest.approx(theirs.pop(name), abs=1e-9)
            assert ours == theirs
