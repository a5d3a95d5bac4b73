"""The landing pages of a link may be the variations of a campaign."""

import pytest

from affiliations.experiments import publishing
from affiliations.experiments.landing import FLAG
from affiliations.experiments.models import Assignment, Variation
from affiliations.links.models import Transaction
from affiliations.models import Visitor
from tests.core.factories import make_partner, make_user
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign
from tests.links.factories import make_link

pytestmark = pytest.mark.django_db

OWN, ONE, OTHER = (f"https://shop.example/{each}" for each in ("own", "one", "other"))
PAGES = [
    {"name": "One", "allocation": 50, "is_reference": True, "modifications": {FLAG: ONE}},
    {"name": "Other", "allocation": 50, "modifications": {FLAG: OTHER}},
]


@pytest.fixture(autouse=True)
def env(settings):
    made = Environment()
    settings.AFFILIATE_TRACKING_PROPERTY = made.id
    settings.AFFILIATE_LINKS_GATE = "open"
    settings.AFFILIATE_LINKS_LANDING_PAGE = "affiliations.experiments.landing.landing_page"
    return made


@pytest.fixture
def partner():
    return make_partner()


@pytest.fixture
def link(partner):
    return make_link(landing_page=OWN, partner=partner)


def meant(key, value):
    return [[{"key": key, "operator": "EQUALS", "value": value}]]


def of_link(env, link, pages=PAGES):
    targeting = meant("aff_link", link.path)
    return make_campaign(env.prop, groups=[{"variations": pages, "targeting": targeting}])


def click(client, link, query="", **headers):
    return client.get(f"/router/{link.path}?{query}", headers=headers)["Location"]


def test_some_land_here_and_some_there(client, env, link, partner):
    of_link(env, link)
    found = []
    for _ in range(30):
        client.cookies.clear()
        found.append(click(client, link))
        # And always there.
        assert click(client, link) == found[-1]
    assert set(found) == {ONE, OTHER}
    rows = Assignment.objects.exclude(exposed_on=None)
    assert rows.count() == 30
    assert {row.partner_id for row in rows} == {partner.pk}
    landed = Transaction.objects.order_by("pk").values_list("landing_page", flat=True)
    assert list(landed) == found
    assert Visitor.objects.count() == 30


def test_what_a_click_says_is_passed_on_there_too(client, env, link):
    of_link(env, link)
    assert click(client, link, "utm_source=x").endswith("?utm_source=x")


def test_other_links_lead_to_their_own(client, env, link):
    of_link(env, link)
    assert click(client, make_link(landing_page=OWN)) == OWN
    assert not Assignment.objects.exists()


def test_those_whom_a_partner_sends(client, env, link, partner):
    whole = [{"name": "One", "allocation": 100, "modifications": {FLAG: ONE}}]
    targeting = meant("aff_partner", partner.uid)
    make_campaign(env.prop, groups=[{"variations": whole, "targeting": targeting}])
    others = make_link(landing_page=OWN, partner=make_partner())
    assert click(client, others) == OWN
    assert click(client, link) == ONE


def test_a_user_lands_where_they_have_landed(client, env, link):
    of_link(env, link)
    user = make_user()
    client.force_login(user)
    first = click(client, link)
    for _ in range(5):
        client.cookies.clear()
        client.force_login(user)
        assert click(client, link) == first


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "/relative", "", None, 12, "https://evil.example/"]
)
def test_nobody_is_led_where_no_link_may_lead(client, env, link, settings, url):
    settings.AFFILIATE_LINKS_LANDING_HOSTS = ["shop.example"]
    of_link(env, link, [{"name": "Bad", "allocation": 100, "modifications": {FLAG: url}}])
    assert click(client, link) == OWN


def test_without_a_campaign_it_is_the_links_own(client, env, link):
    campaign = of_link(env, link)
    publishing.pause(campaign=campaign)
    assert click(client, link) == OWN


def test_robots_and_whoever_asks_not_to_be_tracked(client, env, link):
    of_link(env, link)
    assert click(client, link, **{"user-agent": "Googlebot/2.1"}) == OWN
    assert click(client, link, **{"sec-gpc": "1"}) == OWN
    assert not Assignment.objects.exists()
    assert Variation.objects.count() == 2


def test_a_hook_that_fails_harms_no_click(client, link, settings, caplog):
    def fail(request, **named):
        raise RuntimeError("gone")

    settings.AFFILIATE_LINKS_LANDING_PAGE = fail
    assert click(client, link) == OWN
    assert "gone" in caplog.text
