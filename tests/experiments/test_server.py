"""What Flagship's clients ask of the server, and how it answers."""

import json

import pytest
from django.db import DatabaseError

from affiliations.experiments import deciding, publishing
from affiliations.experiments.models import Assignment, Variation
from affiliations.tracking.identities import identify, name
from affiliations.tracking.models import Customer, Hit, Identity, Property
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign

pytestmark = pytest.mark.django_db

#: Which half of the visitors somebody is in depends on the group's id: these are told apart by it.
WHOLE = [
    {"name": "Original", "allocation": 0, "is_reference": True, "modifications": {"a": 1, "b": 2}},
    {"name": "New", "allocation": 100, "modifications": '{"a": 1.0, "c": [1, "2"], "d": null}'},
]


@pytest.fixture
def env():
    return Environment()


@pytest.fixture
def campaign(env):
    return make_campaign(env.prop, slug="button", groups=[{"variations": WHOLE}])


def variation_of(campaign, name="New"):
    return Variation.objects.select_related("group").get(group__campaign=campaign, name=name)


# Decisions


def test_what_somebody_sees(client, env, campaign):
    response = env.decide(client)
    new = variation_of(campaign)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response.json() == {
        "visitorId": "visitor-1",
        "campaigns": [
            {
                "id": campaign.uid,
                "name": campaign.name,
                "slug": "button",
                "type": "ab",
                "variationGroupId": new.group.uid,
                "variationGroupName": "Everybody",
                "variation": {
                    "id": new.uid,
                    "name": "New",
                    "modifications": {"type": "FLAG", "value": {"a": 1.0, "c": [1, "2"]}},
                    "reference": False,
                },
            }
        ],
    }
    # A number keeps its kind, by which clients hold it against a default.
    assert '"a":1.0,' in response.content.decode()


def test_every_flag_of_the_group_where_it_is_asked_for(client, env, campaign):
    [told] = env.decide(client, query="&exposeAllKeys=true").json()["campaigns"]
    assert told["variation"]["modifications"]["value"] == {
        "a": 1.0,
        "b": None,
        "c": [1, "2"],
        "d": None,
    }
    for other in ("&exposeAllKeys=True", "&exposeAllKeys=1", "&exposeAllKeys=false"):
        [told] = env.decide(client, query=other).json()["campaigns"]
        assert told["variation"]["modifications"]["value"] == {"a": 1.0, "c": [1, "2"]}


def test_where_nothing_is_shown_it_is_json_all_the_same(client, env):
    response = env.decide(client)
    assert (response.status_code, response.json()) == (
        200,
        {"visitorId": "visitor-1", "campaigns": []},
    )


@pytest.mark.parametrize("path", ["campaigns/", "campaigns"])
def test_with_a_slash_and_without(client, env, campaign, path):
    assert len(env.decide(client, path=path).json()["campaigns"]) == 1


def test_names_in_both_ways(client, env):
    gold = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]
    make_campaign(env.prop, groups=[{"variations": WHOLE, "targeting": gold}])
    told = {"visitor_id": "v", "trigger_hit": False, "context": {"plan": "gold"}}
    where = f"v2/{env.id}/campaigns"
    found = env.post(client, where, told, **{"x-api-key": env.key}).json()
    assert (found["visitorId"], len(found["campaigns"])) == ("v", 1)


def test_the_other_modes(client, env, campaign):
    ids = [{"campaignId": campaign.uid, "variationId": variation_of(campaign).uid}]
    simple = env.decide(client, query="&mode=simple").json()
    merged = {"a": 1.0, "c": [1, "2"]}
    assert simple == {"campaignsVariation": ids, "mergedModifications": merged}
    full = env.decide(client, query="&mode=full").json()
    assert full == {**env.decide(client).json(), **simple}
    assert env.decide(client, query="&mode=zzz").json() == env.decide(client).json()


@pytest.mark.parametrize("name", ["extras", "extras[]"])
def test_the_settings_of_the_account(client, env, name):
    extras = env.decide(client, query=f"&{name}=accountSettings&{name}=other").json()["extras"]
    assert extras["accountSettings"]["enabledXPC"] is True
    assert "extras" not in env.decide(client, query="&extras=other").json()


def test_flag_by_flag(client, env, campaign):
    found = env.decide(client, path="flags").json()
    assert set(found) == {"a", "b", "c", "d"}
    assert found["c"]["value"] == [1, "2"]
    assert found["c"]["metadata"] == {
        "campaignId": campaign.uid,
        "campaignName": campaign.name,
        "slug": "button",
        "type": "ab",
        "variationGroupId": variation_of(campaign).group.uid,
        "variationGroupName": "Everybody",
        "variationId": variation_of(campaign).uid,
        "variationName": "New",
        "reference": False,
    }


def test_one_campaign_by_its_id_or_slug(client, env, campaign):
    [whole] = env.decide(client).json()["campaigns"]
    for told in (campaign.uid, "button", "button/"):
        assert env.decide(client, path=f"campaigns/{told}").json() == whole


def test_one_campaign_that_there_is_not(client, env, campaign):
    response = env.decide(client, path="campaigns/nope")
    assert response.status_code == 400
    assert response.json()["message"] == (
        "The campaign nope is paused or doesn’t exist. Verify your customId or campaignId."
    )


def test_one_campaign_that_means_somebody_else(client, env):
    gold = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]
    groups = [{"variations": WHOLE, "targeting": gold}]
    make_campaign(env.prop, slug="gold", groups=groups)
    response = env.decide(client, path="campaigns/gold")
    assert (response.status_code, response.content) == (204, b"")


def test_one_campaign_that_has_no_share_for_somebody(client, env):
    nothing = [{"name": "None", "allocation": 0, "modifications": {"a": 1}}]
    make_campaign(env.prop, slug="none", groups=[{"variations": nothing}])
    response = env.decide(client, path="campaigns/none")
    assert (response.status_code, response.json()) == (400, {"message": "Visitor untracked"})


def test_nobody_says_of_themselves_whom_one_campaign_means(client, env):
    of_anna = [[{"key": "aff_partner", "operator": "EQUALS", "value": "anna"}]]
    make_campaign(env.prop, slug="anna", groups=[{"variations": WHOLE, "targeting": of_anna}])
    response = env.decide(client, path="campaigns/anna", context={"aff_partner": "anna"})
    assert response.status_code == 204


def test_one_campaign_as_text(client, env):
    text = [{"name": "T", "allocation": 100, "kind": "HTML", "modifications": {"x": "<b>hi</b>"}}]
    make_campaign(env.prop, slug="text", groups=[{"variations": text}])
    response = env.decide(client, path="campaigns/text", format_response=True)
    assert (response.content, response["Content-Type"]) == (b"<b>hi</b>", "text/html")
    assert response["Content-Security-Policy"] == "sandbox"
    plain = env.decide(client, path="campaigns/text")
    assert plain.json()["variation"]["modifications"]["type"] == "HTML"


def test_panic(client, env, campaign):
    publishing.set_panic(prop=env.prop, panic=True)
    panicking = {"visitorId": "visitor-1", "campaigns": [], "panic": True}
    for path in ("campaigns/", "campaigns/button", "flags"):
        response = env.decide(client, path=path)
        assert (response.status_code, response.json()) == (200, panicking)
    publishing.set_panic(prop=env.prop, panic=False)
    assert len(env.decide(client).json()["campaigns"]) == 1


def test_a_decision_group_decides_for_all_of_it(client, env):
    make_campaign(env.prop)
    found = [
        env.flags(client, f"visitor-{n}", decisionGroup=group)["color"]
        for group in ("a", "b", "c", "d", "e", "f", "g", "h")
        for n in range(5)
    ]
    assert all(len(set(found[start : start + 5])) == 1 for start in range(0, 40, 5))
    assert len(set(found)) == 2


def test_no_query_where_nothing_changed(client, env, campaign, queries):
    env.decide(client)
    with queries(0):
        env.decide(client)


def test_what_only_we_know_nobody_says_of_themselves(client, env):
    first = [[{"key": "aff_first_visit", "operator": "EQUALS", "value": False}]]
    make_campaign(env.prop, groups=[{"variations": WHOLE, "targeting": first}])
    assert env.flags(client, context={"aff_first_visit": False}) == {}
    identify(env.prop, [name("client", "visitor-1")])
    Customer.objects.update(created_on="2026-01-01T00:00:00Z")
    assert env.flags(client, context={"aff_first_visit": True})


def test_the_last_campaign_has_the_last_word(client, env, campaign):
    last = [{"name": "Last", "allocation": 100, "modifications": {"a": "last"}}]
    make_campaign(env.prop, groups=[{"variations": last}])
    merged = env.decide(client, query="&mode=simple").json()["mergedModifications"]
    assert (merged["a"], env.flags(client)["a"]) == ("last", "last")


# Who may ask


def test_another_environment(client, env):
    response = env.post(client, "v2/nope/campaigns/", {"visitorId": "v"}, **{"x-api-key": env.key})
    assert (response.status_code, response.json()) == (
        400,
        {"message": "environment nope not found"},
    )


@pytest.mark.parametrize("key", ["", "wrong"])
def test_the_wrong_key(client, env, campaign, key):
    response = env.post(client, f"v2/{env.id}/campaigns/", {}, **{"x-api-key": key})
    assert (response.status_code, response.json()) == (403, {"message": "Forbidden"})


def test_a_disabled_environment(client, env):
    Property.objects.update(active=False)
    assert env.decide(client).status_code == 403


def test_another_sites_page(client, env, campaign):
    there = {"origin": "https://evil.example"}
    for path in ("v2/activate", "collect/", f"v2/{env.id}/events"):
        told = {"cid": env.id, "vid": "v", "t": "SCREENVIEW", "dl": "x", "type": "CONTEXT"}
        told |= {"caid": "x", "vaid": "x", "visitorId": "v"}
        response = env.post(client, path, told, **there)
        assert response.status_code == 403, path
        assert "Access-Control-Allow-Origin" not in response
    assert not Hit.objects.exists()


def test_a_page_of_a_site_that_is_named(client):
    env = Environment(origins=["https://blog.example"])
    there = {"origin": "https://blog.example"}
    asked = client.options("/flagship/collect/", headers=there)
    assert asked["Access-Control-Allow-Origin"] == there["origin"]
    assert "X-Api-Key" in asked["Access-Control-Allow-Headers"]
    told = {"cid": env.id, "vid": "v", "t": "SCREENVIEW", "dl": "x"}
    response = env.post(client, "collect/", told, **there)
    assert response["Access-Control-Allow-Origin"] == there["origin"]
    assert Hit.objects.count() == 1


@pytest.mark.parametrize("path", ["v2/activate", "collect/", "v2/x/campaigns/", "v2/x/events"])
def test_only_posts(client, path):
    response = client.get(f"/flagship/{path}")
    assert (response.status_code, response.json()) == (
        400,
        {"message": "only POST http method is allowed"},
    )


# What cannot be


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{nope", 400, "body: must be a JSON object"),
        (b"", 400, "body: must be a JSON object"),
        (b"[1]", 400, "body: must be a JSON object"),
        (b'{"visitorId":' + b"9" * 5000 + b"}", 400, "body: must be a JSON object"),
        (b"[" * 10_000, 400, "body: must be a JSON object"),
        (b'{"visitorId": 12}', 400, "visitorId: must be text"),
        (b'{"anonymousId": []}', 400, "anonymousId: must be text"),
        (b'{"context": "x"}', 400, "context: must be an object"),
        (b'{"visitor_consent": "yes"}', 400, "visitorConsent: must be true or false"),
        (b'{"trigger_hit": 1}', 400, "triggerHit: must be true or false"),
        (b'"' + b"x" * 65_536 + b'"', 413, "body: must have at most 65536 bytes"),
    ],
)
def test_what_cannot_be_decided(client, env, campaign, body, status, said):
    response = env.post(client, f"v2/{env.id}/campaigns/", body, **{"x-api-key": env.key})
    assert (response.status_code, response.json()) == (status, {"message": said})


def test_ten_thousand_keys_and_letters_that_no_database_takes(client, env, campaign):
    keys = {f"k{n}": 1 for n in range(5000)}
    for visitor_id in ("\0", "\ud800", "x" * 50_000, "", "null"):
        assert env.flags(client, visitor_id, context=keys if len(visitor_id) < 9 else {})
    deep = json.loads('{"a":' * 500 + "1" + "}" * 500)
    assert env.flags(client, context={"deep": deep, "\0": "\0", "n": None, "l": [1]})
    assert not Identity.objects.exists()


@pytest.mark.parametrize(
    ("version", "status", "kind"),
    [("2.1.5", 500, "application/json"), ("3.0.1", 503, "text/plain"), ("", 503, "text/plain")],
)
def test_a_failure_of_our_own(client, env, campaign, monkeypatch, version, status, kind):
    def fail(*args, **named):
        raise DatabaseError("gone")

    monkeypatch.setattr(deciding, "decide", fail)
    headers = {"x-api-key": env.key, "x-sdk-version": version}
    response = env.post(client, f"v2/{env.id}/campaigns/", {"visitorId": "v"}, **headers)
    assert (response.status_code, response["Content-Type"]) == (status, kind)


# What follows a decision


def test_what_is_decided_is_seen_unless_it_is_said_otherwise(client, env, campaign):
    where = f"v2/{env.id}/campaigns/"
    for told in ({"trigger_hit": False}, {"activate": False}, {"visitor_consent": False}):
        env.post(client, where, {"visitorId": "v", **told}, **{"x-api-key": env.key})
    assert not Assignment.objects.exists()
    for _ in range(2):
        env.post(client, where, {"visitorId": "v"}, **{"x-api-key": env.key})
    [row] = Assignment.objects.all()
    assert (row.variation, row.version, row.identity.value) == (variation_of(campaign), 1, "v")
    assert row.exposed_on is not None


def test_what_is_known_of_somebody_is_a_hit_when_it_changes(client, env):
    where = f"v2/{env.id}/campaigns/"
    told = {"visitorId": "v", "trigger_hit": False, "context": {"plan": "gold", "age": 30}}
    for context in (told["context"], told["context"], {"plan": "gold", "age": 31}, {}):
        env.post(client, where, {**told, "context": context}, **{"x-api-key": env.key})
    env.post(client, f"{where}?sendContextEvent=false", told, **{"x-api-key": env.key})
    without = {**told, "visitorId": "w", "visitor_consent": False}
    env.post(client, where, without, **{"x-api-key": env.key})
    rows = Hit.objects.filter(type="segment").order_by("pk")
    assert [row.meta for row in rows] == [{"plan": "gold", "age": 30}, {"plan": "gold", "age": 31}]
    assert [row.identity.value for row in rows] == ["v", "v"]


def test_whoever_asks_not_to_be_tracked_is_decided_for_and_not_written_of(client, env, campaign):
    told = {"visitorId": "v", "context": {"a": 1}}
    headers = {"x-api-key": env.key, "sec-gpc": "1"}
    response = env.post(client, f"v2/{env.id}/campaigns/", told, **headers)
    assert len(response.json()["campaigns"]) == 1
    new = variation_of(campaign)
    seen = {"cid": env.id, "caid": new.group.uid, "vaid": new.uid, "vid": "v"}
    assert env.post(client, "v2/activate", seen, **{"sec-gpc": "1"}).status_code == 204
    hit = {"cid": env.id, "vid": "v", "t": "SCREENVIEW", "dl": "x"}
    assert env.post(client, "collect/", hit, **{"sec-gpc": "1"}).status_code == 204
    assert not Identity.objects.exists()


def test_the_context_that_2_1_5_sends_by_itself(client, env):
    data = {"sdk_city": "", "plan": "gold", "age": 30}
    told = {"type": "CONTEXT", "data": data, "visitorId": "v"}
    response = env.post(client, f"v2/{env.id}/events", told)
    assert (response.status_code, response.content) == (204, b"")
    assert Hit.objects.get(type="segment").meta == {"plan": "gold", "age": 30}


@pytest.mark.parametrize(
    ("told", "errors"),
    [
        ({}, {"type": "Field is mandatory.", "visitorId": "Field is mandatory."}),
        ({"type": "CONTEXT"}, {"visitorId": "Field is mandatory."}),
        ({"type": "X", "visitorId": "v"}, {"type": "must be CONTEXT"}),
        ({"type": "CONTEXT", "visitorId": 1}, {"visitorId": "must be text"}),
        ({"type": "CONTEXT", "visitorId": "v", "data": 1}, {"data": "must be an object"}),
    ],
)
def test_what_is_no_context(client, env, told, errors):
    response = env.post(client, f"v2/{env.id}/events", told)
    assert (response.status_code, response.json()) == (400, {"status": "error", "errors": errors})


# Limits


def test_without_a_key_there_is_a_limit_for_each_environment_and_address(client, env, settings):
    settings.AFFILIATE_EXPERIMENTS_LIMIT = "2/h"
    told = {"cid": env.id, "vid": "v", "t": "SCREENVIEW", "dl": "x"}
    body = json.dumps(told)

    def post(address, body=body):
        return client.post(
            "/flagship/collect/", body, content_type="application/json", REMOTE_ADDR=address
        )

    assert [post("93.184.216.34").status_code for _ in range(3)] == [204, 204, 429]
    assert post("93.184.216.34")["Retry-After"]
    assert post("93.184.217.34").status_code == 204
    other = Environment()
    assert post("93.184.216.34", json.dumps({**told, "cid": other.id})).status_code == 204
    # Whoever knows the key is not counted.
    for _ in range(3):
        assert env.decide(client, REMOTE_ADDR="93.184.216.34").status_code == 200


def test_a_decision_that_may_be_kept_is_one_query(client, env, queries):
    campaign = make_campaign(env.prop)
    env.flags(client)
    env.flags(client, anonymousId="before")
    # It is known from now on that such are kept.
    env.flags(client)
    with queries(1):
        env.flags(client, anonymousId="before")
    assert Assignment.objects.filter(campaign=campaign).count() == 1
