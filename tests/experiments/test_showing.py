"""What the visitors of a site see of its experiments, in its views, templates and tests."""

import pytest
from django.db import DatabaseError
from django.http import HttpResponse, JsonResponse
from django.template import Context, Template
from django.urls import include, path

from affiliations.experiments import deciding, exposures, publishing, qa
from affiliations.experiments.models import Assignment, Variation
from affiliations.experiments.showing import Experiments
from affiliations.experiments.testing import override
from affiliations.models import Visitor
from affiliations.testing import refer
from affiliations.tracking.models import Identity
from tests.core.factories import make_partner, make_user
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign, make_exclusion
from tests.referrals.factories import make_member

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]
#: Where it matters what was committed.
COMMITTED = pytest.mark.django_db(transaction=True)

FLAGS = ("color", "size", "nothing")


def look(request):
    """Answer with what is seen of each flag that is asked for, by how it is asked for."""
    ask = request.GET.get("ask", "value")
    experiments = request.experiments
    if ask == "none":
        return JsonResponse({})
    if "plan" in request.GET:
        experiments.update(plan=request.GET["plan"])
    if ask == "variation":
        return JsonResponse({"name": experiments.variation(request.GET["slug"])})
    return JsonResponse({each: getattr(experiments, ask)(each, "default") for each in FLAGS})


async def alook(request):
    experiments = request.experiments
    ask = request.GET.get("ask", "value")
    if ask == "none":
        return JsonResponse({})
    if ask == "variation":
        return JsonResponse({"name": await experiments.avariation(request.GET["slug"])})
    found = {each: await getattr(experiments, f"a{ask}")(each, "default") for each in FLAGS}
    return JsonResponse(found)


def page(request):
    text = "{% load experiments %}{% variation 'color' 'red' %} {% variation 'x' 1 as y %}{{ y }}"
    return HttpResponse(Template(text).render(Context({"request": request})))


urlpatterns = [
    path("look/", look),
    path("alook/", alook),
    path("page/", page),
    path("", include("tests.projects.urls")),
]


@pytest.fixture(autouse=True)
def env(settings):
    made = Environment()
    settings.AFFILIATE_TRACKING_PROPERTY = made.id
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "affiliations.experiments.middleware.ExperimentsMiddleware",
    ]
    return made


def all_of(env, flags=None, **fields):
    flags = {"color": "blue", "size": 12} if flags is None else flags
    whole = [{"name": "New", "allocation": 100, "modifications": flags}]
    return make_campaign(env.prop, groups=[{"variations": whole, **fields}])


def seen(client, query="", **headers):
    url = "/alook/" if getattr(client, "is_async", False) else "/look/"
    return client.get(f"{url}?{query}", headers=headers).json()


def exposed():
    rows = Assignment.objects.exclude(exposed_on=None).order_by("pk")
    return [(each.identity.kind, each.variation.name) for each in rows]


def test_a_flag(both_clients, env):
    all_of(env)
    assert seen(both_clients) == {"color": "blue", "size": 12, "nothing": "default"}
    assert exposed() == [("cookie", "New")]
    assert both_clients.cookies["affiliate_ident"].value


def test_to_peek_is_not_to_see(both_clients, env):
    all_of(env)
    assert seen(both_clients, "ask=peek") == {"color": "blue", "size": 12, "nothing": "default"}
    assert exposed() == []


def test_the_name_of_what_is_seen(both_clients, env):
    campaign = all_of(env)
    for slug, name in ((campaign.slug, "New"), (campaign.uid, "New"), ("nope", "")):
        assert seen(both_clients, f"ask=variation&slug={slug}") == {"name": name}
    assert exposed() == [("cookie", "New")]


def test_null_is_the_default(client, env):
    all_of(env, {"color": None})
    assert seen(client)["color"] == "default"


def test_unused_it_is_no_query_and_no_cookie(both_clients, env, queries):
    all_of(env)
    with queries(0):
        assert seen(both_clients, "ask=none") == {}
    assert not both_clients.cookies


@COMMITTED
def test_it_is_written_once_that_somebody_has_seen_it(client, env, queries):
    all_of(env)
    seen(client)
    with queries(0):
        seen(client)
    exposures.forget()
    seen(client)
    assert exposed() == [("cookie", "New")]


def test_somebody_sees_the_same_again(client, env):
    make_campaign(env.prop)
    assert len({seen(client)["color"] for _ in range(5)}) == 1


def test_there_are_two_of_them(client, env):
    make_campaign(env.prop)
    found = []
    for _ in range(40):
        client.cookies.clear()
        found.append(seen(client)["color"])
    assert set(found) == {"red", "blue"}
    assert len(exposed()) == 40


def test_whoever_logs_in_goes_on_with_what_they_saw(client, env):
    make_campaign(env.prop)
    for number in range(12):
        client.cookies.clear()
        color = seen(client)["color"]
        user = make_user(f"user{number}")
        client.force_login(user)
        assert seen(client)["color"] == color
        # On another device, whatever that has seen.
        client.cookies.clear()
        seen(client)
        client.force_login(user)
        assert seen(client)["color"] == color


def test_a_user_is_decided_for_as_clients_decide_for_them(client, env, settings):
    make_campaign(env.prop)
    settings.AFFILIATE_TRACKING_CLIENT_IDS = lambda user: [f"customer-{user.pk}"]
    for number in range(8):
        user = make_user(f"user{number}")
        client.cookies.clear()
        client.force_login(user)
        assert seen(client)["color"] == env.flags(client, f"customer-{user.pk}")["color"]


@pytest.mark.parametrize("headers", [{"sec-gpc": "1"}, {"user-agent": "Googlebot/2.1"}])
def test_whoever_is_not_to_be_known_sees_what_everybody_would(client, env, headers):
    all_of(env)
    assert seen(client, **headers)["color"] == "default"
    assert not client.cookies
    assert not Identity.objects.exists()


def test_without_consent_a_user_sees_theirs_and_nothing_is_written(client, env, settings):
    settings.AFFILIATE_CONSENT = lambda request: False
    all_of(env)
    client.force_login(make_user())
    assert seen(client)["color"] == "blue"
    assert not Assignment.objects.exists()


def test_panic_a_disabled_property_and_none(client, env, settings):
    all_of(env)
    publishing.set_panic(prop=env.prop, panic=True)
    assert seen(client)["color"] == "default"
    publishing.set_panic(prop=env.prop, panic=False)
    assert seen(client)["color"] == "blue"
    settings.AFFILIATE_TRACKING_PROPERTY = ""
    assert seen(client)["color"] == "default"


@COMMITTED
@pytest.mark.parametrize("where", ["decide", "record"])
def test_a_failure_harms_no_page(client, env, monkeypatch, caplog, where):
    all_of(env)

    def fail(*args, **named):
        raise DatabaseError("gone")

    monkeypatch.setattr(
        *{"decide": (deciding, "decide"), "record": (exposures, "record")}[where], fail
    )
    assert seen(client)["color"] == {"decide": "default", "record": "blue"}[where]
    assert "gone" in caplog.text


def test_the_last_campaign_has_the_last_word(client, env):
    all_of(env, {"color": "first"})
    all_of(env, {"color": "last"})
    assert seen(client)["color"] == "last"
    assert len(exposed()) == 1


def test_the_tag(client, env):
    all_of(env)
    assert client.get("/page/").content == b"blue 1"
    assert exposed() == [("cookie", "New")]


def test_the_tag_escapes_what_it_shows(client, env):
    all_of(env, {"color": "<b>"})
    assert client.get("/page/").content == b"&lt;b&gt; 1"


def test_the_tag_without_its_request(caplog):
    text = "{% load experiments %}{% variation 'color' 'red' %}"
    assert Template(text).render(Context()) == "red"
    assert "has no request" in caplog.text


# What is known of somebody


def meant(**conditions):
    return [
        [{"key": key, "operator": "EQUALS", "value": value} for key, value in conditions.items()]
    ]


def test_what_the_page_says_of_them(client, env):
    all_of(env, targeting=meant(plan="gold"))
    assert seen(client)["color"] == "default"
    assert seen(client, "plan=gold")["color"] == "blue"


def test_what_the_site_says_of_everybody(client, env, settings):
    settings.AFFILIATE_EXPERIMENTS_CONTEXT = lambda request: {"host": request.get_host()}
    all_of(env, targeting=meant(host="testserver"))
    assert seen(client)["color"] == "blue"


def test_who_sent_them_and_with_what(client, env):
    partner = make_partner()
    all_of(env, targeting=meant(aff_partner=partner.uid, aff_sub1="blog"))
    assert seen(client)["color"] == "default"
    refer(client, partner, "/?sub1=blog")
    client.force_login(make_user())
    assert seen(client)["color"] == "blue"
    assert Assignment.objects.get().partner == partner
    assert Visitor.objects.count() == 1


def test_whether_it_is_their_first_visit(client, env):
    all_of(env, targeting=meant(aff_first_visit=True))
    assert seen(client)["color"] == "blue"
    Identity.objects.get().customer.__class__.objects.update(created_on="2026-01-01T00:00:00Z")
    assert seen(client)["color"] == "default"


def test_whether_a_friend_brought_them(client, env):
    all_of(env, targeting=meant(aff_referred=True))
    friend, user = make_user("friend"), make_user("user")
    brought = make_member(make_member(user=friend), user=user)
    client.force_login(friend)
    assert seen(client)["color"] == "default"
    client.force_login(brought.user)
    assert seen(client)["color"] == "blue"


@COMMITTED
def test_what_nobody_asks_for_is_not_looked_up(client, env, queries):
    all_of(env, targeting=meant(plan="gold"))
    seen(client, "plan=gold")
    with queries(0):
        seen(client, "plan=gold")


# For staff and for tests


def test_staff_see_what_they_want_to(client, env):
    make_campaign(env.prop)
    for name, color in (("Blue", "blue"), ("Original", "red")):
        variation = Variation.objects.select_related("group").get(name=name)
        for query in (f"{qa.KEY}={qa.token(variation)}", ""):
            assert seen(client, query)["color"] == color
    assert exposed() == []
    before = client.cookies["affiliate_ident"].value
    seen(client, f"{qa.KEY}=off")
    assert exposed()
    assert client.cookies["affiliate_ident"].value == before


@pytest.mark.parametrize("token", ["", "x", "a:b:c", "%00", "e30:1uK9aR:x"])
def test_nobody_else_can_make_such_an_address(client, env, token):
    all_of(env)
    assert seen(client, f"{qa.KEY}={token}")["color"] == "blue"
    assert qa.COOKIE not in client.cookies
    client.cookies[qa.COOKIE] = "junk"
    assert seen(client)["color"] == "blue"


def test_an_address_is_good_for_a_week(client, env, monkeypatch):
    make_campaign(env.prop)
    token = qa.token(Variation.objects.select_related("group").get(name="Blue"))
    monkeypatch.setattr(qa, "AGE", -1)
    seen(client, f"{qa.KEY}={token}")
    assert qa.COOKIE not in client.cookies


def test_staff_see_campaigns_that_exclude_each_other(client, env):
    make_campaign(env.prop, exclusion=make_exclusion(env.prop), exclusion_share=1)
    token = qa.token(Variation.objects.select_related("group").get(name="Blue"))
    assert seen(client, f"{qa.KEY}={token}")["color"] == "blue"


def test_a_test_says_what_everybody_sees(both_clients, env):
    all_of(env)
    with override({"color": "green", "nothing": None}):
        assert seen(both_clients) == {"color": "green", "size": 12, "nothing": None}
        with override({"color": "black"}):
            assert seen(both_clients)["color"] == "black"
        assert seen(both_clients)["color"] == "green"
    assert seen(both_clients)["color"] == "blue"


@override({"color": "green"})
def test_a_whole_test_says_so(client, env):
    assert seen(client)["color"] == "green"
    assert exposed() == []


def test_nothing_is_read_of_a_request_that_nobody_asks():
    class Untouchable:
        def __getattr__(self, name):
            pytest.fail(f"{name} was read")

    assert Experiments(Untouchable())
