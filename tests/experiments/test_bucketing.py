"""The file by which clients decide by themselves, and when they are given it."""

import json

import pytest
from django.utils.http import http_date, parse_http_date

from affiliations.experiments import bucketing, publishing, rules
from affiliations.experiments.models import Variation, VariationGroup
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign, make_exclusion

pytestmark = pytest.mark.django_db


@pytest.fixture
def env():
    return Environment()


def fetch(client, env, **headers):
    return client.get(f"/flagship/{env.id}/bucketing.json", headers=headers)


def told(client, env):
    return fetch(client, env).json()["campaigns"]


def condition(operator, value, key="k"):
    return {"key": key, "operator": operator, "value": value}


def test_a_campaign(client, env):
    campaign = make_campaign(env.prop, slug="button")
    [found] = told(client, env)
    group = VariationGroup.objects.get()
    original, blue = Variation.objects.order_by("pk")
    assert found == {
        "id": campaign.uid,
        "name": campaign.name,
        "slug": "button",
        "type": "ab",
        "bucketRanges": [{"r": [0, 100]}],
        "variationGroups": [
            {
                "id": group.uid,
                "name": "Everybody",
                "targeting": {
                    "targetingGroups": [
                        {"targetings": [condition("EQUALS", "", "fs_all_users")]},
                    ]
                },
                "variations": [
                    {
                        "id": each.uid,
                        "name": each.name,
                        "reference": each is original,
                        "allocation": 50,
                        "modifications": {"type": "FLAG", "value": json.loads(each.modifications)},
                    }
                    for each in (original, blue)
                ],
            }
        ],
    }


def test_it_is_given_once(client, env):
    make_campaign(env.prop)
    first = fetch(client, env)
    date = first["Last-Modified"]
    assert first.status_code == 200
    assert date == http_date(parse_http_date(date))
    again = fetch(client, env, **{"if-modified-since": date})
    assert (again.status_code, again.content, again["Last-Modified"]) == (304, b"", date)
    for other in ("x", "", http_date(parse_http_date(date) - 1), http_date(2**31)):
        assert fetch(client, env, **{"if-modified-since": other}).status_code == 200


def test_there_is_one_without_campaigns(client, env):
    response = fetch(client, env)
    assert response.json()["campaigns"] == []
    assert response["Last-Modified"]


def test_each_change_is_given(client, env):
    dates = {fetch(client, env)["Last-Modified"]}
    campaign = make_campaign(env.prop)
    dates.add(fetch(client, env)["Last-Modified"])
    for panic in (True, False):
        publishing.set_panic(prop=env.prop, panic=panic)
        dates.add(fetch(client, env)["Last-Modified"])
    publishing.pause(campaign=campaign)
    dates.add(fetch(client, env)["Last-Modified"])
    assert len(dates) == 5


def test_while_panicking_it_is_given_each_time(client, env):
    make_campaign(env.prop)
    publishing.set_panic(prop=env.prop, panic=True)
    first = fetch(client, env)
    assert first.json() == {"panic": True, "campaigns": []}
    again = fetch(client, env, **{"if-modified-since": first["Last-Modified"]})
    assert (again.status_code, again["Last-Modified"]) == (200, first["Last-Modified"])


def test_another_environment(client, env):
    response = client.get("/flagship/nope/bucketing.json")
    assert (response.status_code, response.json()) == (
        400,
        {"message": "environment nope not found"},
    )
    assert client.post(f"/flagship/{env.id}/bucketing.json").status_code == 400


def test_where_nothing_changed_it_is_no_query(client, env, queries):
    make_campaign(env.prop)
    date = fetch(client, env)["Last-Modified"]
    with queries(0):
        fetch(client, env, **{"if-modified-since": date})


# What has moved


def test_a_variation_whose_buckets_are_apart(client, env):
    campaign = make_campaign(env.prop)
    original, blue = Variation.objects.order_by("pk")
    Variation.objects.update(allocation=25)
    publishing.publish(campaign=campaign)
    Variation.objects.filter(pk=original.pk).update(allocation=60)
    publishing.publish(campaign=campaign)
    [group] = told(client, env)[0]["variationGroups"]
    found = [(each["id"], each["allocation"]) for each in group["variations"]]
    # No id twice: one of the clients knows the last of them alone.
    assert found == [
        (original.uid, 50),
        (blue.uid, 25),
        (f"{original.uid}.1", 10),
    ]
    assert bucketing.variation_of(f"{original.uid}.1") == original.uid


def test_buckets_that_are_nobodys_any_more(client, env):
    campaign = make_campaign(env.prop)
    original, blue = Variation.objects.order_by("pk")
    Variation.objects.filter(pk=original.pk).update(allocation=30)
    publishing.publish(campaign=campaign)
    [group] = told(client, env)[0]["variationGroups"]
    held = group["variations"][1]
    found = [(each["id"], each["allocation"]) for each in group["variations"]]
    assert found == [(original.uid, 30), (f"{group['id']}.1", 20), (blue.uid, 50)]
    assert held["modifications"] == {"type": "FLAG", "value": {}}


def test_whoever_has_seen_one_without_a_share_keeps_it(client, env):
    campaign = make_campaign(env.prop)
    Variation.objects.filter(name="Blue").update(allocation=0)
    publishing.publish(campaign=campaign)
    [group] = told(client, env)[0]["variationGroups"]
    assert [each["allocation"] for each in group["variations"]] == [50, 0]


# What clients cannot decide


def targeting_of(client, env, *conditions):
    make_campaign(env.prop, groups=[{"targeting": [list(conditions)]}])
    found = told(client, env)
    if not found:
        return None
    lists = found[0]["variationGroups"][0]["targeting"]["targetingGroups"]
    return [each["targetings"] for each in lists]


@pytest.mark.parametrize(
    ("one", "lists"),
    [
        (condition("EQUALS", "gold"), [[condition("EQUALS", "gold")]]),
        (condition("EQUALS", 18), [[condition("EQUALS", 18)]]),
        # 3.0.1 takes a text that is JSON for no text.
        (condition("EQUALS", "18"), [[condition("EQUALS", ["18"])]]),
        (condition("NOT_CONTAINS", "true"), [[condition("NOT_CONTAINS", ["true"])]]),
        (condition("NOT_EQUALS", ["a", "1"]), [[condition("NOT_EQUALS", ["a", "1"])]]),
        # 2.1.5 takes several values of these for none.
        (
            condition("STARTS_WITH", ["a", "b"]),
            [[condition("STARTS_WITH", "a")], [condition("STARTS_WITH", "b")]],
        ),
        (condition("GREATER_THAN", [1, 2]), [[condition("GREATER_THAN", each)] for each in (1, 2)]),
    ],
)
def test_what_all_clients_decide_as_we_do(client, env, one, lists):
    assert targeting_of(client, env, one) == lists


def test_with_everybody_it_is_the_rest_that_counts(client, env):
    found = targeting_of(
        client, env, condition("EQUALS", "", "fs_all_users"), condition("EQUALS", 1)
    )
    assert found == [[condition("EQUALS", 1)]]


UNSERVABLE = [
    condition("EQUALS", "v", "fs_users"),
    condition("EQUALS", "x", "aff_partner"),
    condition("EQUALS", "python", "fs_client"),
    condition("EXISTS", True),
    condition("SEMVER_EQUALS", "1.2.3"),
    condition("STARTS_WITH", "18"),
    condition("GREATER_THAN", list(range(65))),
]


@pytest.mark.parametrize("one", UNSERVABLE, ids=lambda one: f"{one['key']}-{one['operator']}")
def test_what_they_cannot_decide_is_left_out_from_there_on(client, env, one):
    plain = {"targeting": [[condition("EQUALS", 1)]], "name": "Plain"}
    hard = {"targeting": [[one]], "name": "Hard"}
    campaign = make_campaign(env.prop, groups=[plain, hard, {"name": "Rest"}])
    make_campaign(env.prop, groups=[hard, {"name": "Rest"}])
    [found] = told(client, env)
    # Whoever would be in the hard one must not be given the rest's.
    assert [each["name"] for each in found["variationGroups"]] == ["Plain"]
    compiled = rules.of_version(json.loads(campaign.current.rules), 1)
    [reason] = bucketing.unservable(compiled)
    assert reason.startswith("Hard: ")


def test_campaigns_that_exclude_others_are_left_out(client, env):
    campaign = make_campaign(env.prop, exclusion=make_exclusion(env.prop))
    assert told(client, env) == []
    compiled = rules.of_version(json.loads(campaign.current.rules), 1)
    assert bucketing.unservable(compiled) == ["it excludes other campaigns"]
    assert (
        bucketing.unservable(rules.of_version(json.loads(make_campaign().current.rules), 1)) == []
    )
