"""The API of results: the figures of the page, to whom they are due, and each refusal."""

import json
import os
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.urls import include, path

from affiliations.experiments.results import results
from affiliations.models import ApiKey
from tests.core.factories import make_partner, make_user
from tests.experiments.factories import make_campaign
from tests.experiments.worlds import THREE, crowd, did, saw, variations_of
from tests.tracking.factories import make_property, say

pytestmark = pytest.mark.django_db

SNAPSHOT = Path(__file__).with_name("results_openapi.json")
MOUNT = "/api/experiments/"
SUMS = {"Original": (400, 60, 2000), "Blue": (300, 75, 2500), "Green": (310, 40, 0)}


def make_key(partner=None, scopes=("experiments:read",)):
    return ApiKey.objects.issue(name="a program", scopes=scopes, partner=partner)[1]


@pytest.fixture
def shop():
    return make_property()


@pytest.fixture
def campaign(shop):
    return make_campaign(shop, slug="checkout", groups=[{"variations": THREE}])


@pytest.fixture
def ask(client):
    """Ask for what came of a campaign, with a key of the whole site's or another."""
    site = make_key()

    def asked(place="checkout", key=site, goal="transaction", **query):
        headers = {"authorization": f"Bearer {key}"}
        return client.get(
            f"{MOUNT}campaigns/{place}/results", {"goal": goal, **query}, headers=headers
        )

    return asked


def refused(answer, status, code, *fields):
    body = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    assert (answer.status_code, body["code"]) == (status, code), body
    assert [each["field"] for each in body.get("errors", [])] == [*fields]


def test_it_tells_what_the_service_does(ask, shop, campaign):
    crowd(shop, campaign, SUMS)
    body = ask(since="2026-03-01T00:00:00Z", until="2026-04-01T00:00:00Z", days="30").json()
    found = results(campaign, "transaction", days=30)
    [group], [told] = found.groups, body["groups"]
    assert (body["campaign"], body["goal"], body["currency"]) == (
        campaign.uid,
        "transaction",
        "EUR",
    )
    assert (body["days"], body["partner"], body["cap"]) == (30, None, None)
    assert (told["visitors"], told["mixed"], told["verdict"]) == (1010, 0, group.verdict)
    assert told["sample_ratio_p"] == pytest.approx(group.sample_ratio.p)
    names = [each["name"] for each in told["variations"]]
    assert names == ["Original", "Blue", "Green"]
    for each, shown in zip(group.variations, told["variations"], strict=True):
        rate, conversion = each.rates, shown["conversion"]
        assert (shown["visitors"], conversion["conversions"]) == (each.visitors, rate.conversions)
        assert conversion["rate"] == {
            "value": rate.rate.median,
            "low": rate.rate.low,
            "high": rate.rate.high,
        }
        assert conversion["best"] == rate.best
        if each.is_reference:
            assert conversion["uplift"] is conversion["look"] is conversion["beats"] is None
            continue
        assert conversion["uplift"]["high"] == rate.uplift.high
        assert conversion["look"]["p"] == rate.look.p
    blue = told["variations"][1]["revenue"]
    # Exact, and in major units: 75 people, 25 euros each.
    assert blue["total"] == "1875.00"
    assert blue["per_visitor"]["value"] == pytest.approx(6.25)
    assert told["variations"][0]["expected"] == pytest.approx(404)


def test_what_each_spends_counts_up_to_the_cap(ask, shop, campaign):
    crowd(shop, campaign, SUMS)
    body = ask(currency="eur", cap="20.00", level="0.9").json()
    assert (body["cap"], body["currency"], body["level"]) == ("20.00", "EUR", 0.9)
    totals = [each["revenue"]["total"] for each in body["groups"][0]["variations"]]
    assert totals == ["1200.00", "1500.00", "0.00"]


def test_a_partner_is_told_of_those_whom_they_have_sent(ask, shop, campaign):
    anna, bert, nobody = make_partner(), make_partner(), make_partner()
    for name, partner, buys in (("a", anna, True), ("b", anna, False), ("c", bert, True)):
        who = f"client:{name}"
        say(shop, who)
        saw(variations_of(campaign)["Blue"], who, 1, partner=partner)
        if buys:
            did(shop, who, 2, minor=500, currency="EUR")
    key = make_key(anna)

    def blue(answer):
        [group] = answer.json()["groups"]
        [found] = [each for each in group["variations"] if each["name"] == "Blue"]
        return found["visitors"], found["conversion"]["conversions"]

    assert blue(ask()) == (3, 2)
    assert blue(ask(partner=bert.uid)) == (1, 1)
    answer = ask(key=key)
    assert (blue(answer), answer.json()["partner"]) == ((2, 1), anna.uid)
    assert blue(ask(key=key, partner=anna.uid)) == (2, 1)
    # Another partner is answered as one that there is not, and so is what they have sent nobody to.
    refused(ask(key=key, partner=bert.uid), 422, "invalid-fields", "partner")
    refused(ask(key=key, partner="none"), 422, "invalid-fields", "partner")
    refused(ask(key=make_key(nobody)), 404, "unknown-campaign")
    answer = ask("other", key=key)
    refused(answer, 404, "unknown-campaign")
    assert answer.content == ask(key=make_key(nobody)).content


def test_a_campaign_by_its_id_or_its_slug(ask, shop, campaign):
    assert ask(campaign.uid).json()["campaign"] == campaign.uid
    other = make_campaign(make_property(), slug="checkout")
    refused(ask("checkout"), 404, "unknown-campaign")
    assert ask(other.uid).json()["campaign"] == other.uid
    named = make_campaign(shop, slug=other.uid)
    assert ask(other.uid).json()["campaign"] == other.uid
    assert ask(named.uid).json()["campaign"] == named.uid


@pytest.mark.parametrize("place", ["none", "é", "a%00b", "%ff", "x" * 5000, "%ed%a0%80", "a b"])
def test_no_campaign(ask, campaign, place):
    refused(ask(place), 404, "unknown-campaign")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"goal": "signup"}, "goal"),
        ({"goal": "event:" + "x" * 999}, "goal"),
        ({"goal": "event:a\0"}, "goal"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-03-01T00:00:00"}, "since"),
        ({"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, "until"),
        ({"until": "9999-12-31T23:59:59Z"}, "until"),
        ({"days": "0"}, "days"),
        ({"days": "9" * 40}, "days"),
        ({"days": "x"}, "days"),
        ({"partner": "none"}, "partner"),
        ({"partner": "a\0"}, "partner"),
        ({"currency": "EURO"}, "currency"),
        ({"currency": "XXY"}, "currency"),
        ({"cap": "5"}, "currency"),
        ({"cap": "5.001", "currency": "EUR"}, "cap"),
        ({"cap": "0", "currency": "EUR"}, "cap"),
        ({"cap": "x", "currency": "EUR"}, "cap"),
        ({"cap": "9" * 40, "currency": "EUR"}, "cap"),
        ({"level": "1"}, "level"),
        ({"level": "nan"}, "level"),
        ({"level": "inf"}, "level"),
    ],
)
def test_what_cannot_be_asked(ask, campaign, query, field):
    answer = ask(**query)
    assert answer.status_code == 422, answer.content
    assert [each["field"] for each in answer.json()["errors"]] == [field]


def test_a_goal_is_needed(client, campaign):
    headers = {"authorization": f"Bearer {make_key()}"}
    answer = client.get(f"{MOUNT}campaigns/checkout/results", headers=headers)
    refused(answer, 422, "invalid-fields", "goal")


def test_who_may_ask(client, ask, campaign):
    refused(ask(key="aff_wrong"), 401, "invalid-api-key")
    refused(ask(key=make_key(scopes=["links:read"])), 401, "invalid-api-key")
    refused(client.get(f"{MOUNT}campaigns"), 401, "authentication-required")
    user = make_user()
    user.is_staff = True
    user.save()
    client.force_login(user)
    refused(client.get(f"{MOUNT}campaigns"), 403, "permission-denied")
    user.user_permissions.add(Permission.objects.get(codename="view_campaign"))
    assert client.get(f"{MOUNT}campaigns").status_code == 200
    headers = {"authorization": f"Bearer {make_key(make_partner())}"}
    refused(client.get(f"{MOUNT}campaigns", headers=headers), 403, "permission-denied")


def test_all_campaigns_page_by_page(client, shop, campaign):
    others = [make_campaign(shop, live=False) for _ in range(4)]
    headers = {"authorization": f"Bearer {make_key()}"}
    found, query = [], {"limit": 2}
    while True:
        body = client.get(f"{MOUNT}campaigns", query, headers=headers).json()
        found += body["campaigns"]
        if body["next"] is None:
            break
        query["before"] = body["next"]
    assert [each["id"] for each in found] == [
        *(each.uid for each in reversed(others)),
        campaign.uid,
    ]
    last = found[-1]
    assert {key: last[key] for key in ("slug", "type", "state", "property")} == {
        "slug": "checkout",
        "type": "ab",
        "state": "live",
        "property": shop.public_key,
    }
    assert {"trigger:Order placed", "transaction"} <= {*last["goals"]}
    for query in ({"limit": 0}, {"limit": 101}, {"before": 0}, {"before": 2**63}):
        answer = client.get(f"{MOUNT}campaigns", query, headers=headers)
        refused(answer, 422, "invalid-fields", *query)


def test_the_document_is_the_one_that_was_reviewed(client):
    found = client.get(f"{MOUNT}openapi.json").json()
    found = json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("AFFILIATIONS_WRITE_OPENAPI"):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8")


urlpatterns = [path("here/", include("affiliations.experiments.api_urls", namespace="x"))]


@pytest.mark.urls(__name__)
def test_a_site_mounts_it_anywhere(client):
    assert {*client.get("/here/openapi.json").json()["paths"]} == {
        "/here/campaigns",
        "/here/campaigns/{campaign}/results",
    }
    assert '"openapi.json"' in client.get("/here/docs").content.decode()


def test_a_draft_has_no_groups(ask, shop):
    make_campaign(shop, slug="draft", live=False)
    assert ask("draft").json()["groups"] == []
