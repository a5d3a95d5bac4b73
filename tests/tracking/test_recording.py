"""What somebody does in a request of the site's is recorded, of whom it should be."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import Client as Browser
from django.test import RequestFactory

from affiliations import ident, tracking
from affiliations.money import Money
from affiliations.testing import refer
from affiliations.tracking.exceptions import InvalidHit, UnknownEventType, UnknownProperty
from affiliations.tracking.models import Customer, Hit, Identity
from tests.core.factories import make_partner, make_user
from tests.tracking.factories import make_event_type, make_property, people, say

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(settings):
    made = make_property(public_key="SHOP")
    make_event_type(made, "purchase")
    settings.AFFILIATE_TRACKING_PROPERTY = "SHOP"
    return made


@pytest.fixture
def request_of(shop):
    """Make a request of a browser, as a view of the site's gets it."""

    def request_of(
        user=None, cookies=None, path="/shoes?utm_source=bing&utm_medium=cpc", **headers
    ):
        request = RequestFactory().get(path, headers=headers)
        request.user = user or AnonymousUser()
        request.COOKIES = dict(cookies or {})
        return request

    return request_of


def test_a_page_that_was_seen(request_of, shop):
    request = request_of(Referer="https://www.bing.com/")
    assert tracking.hit(request, title="Shoes")
    kept = Hit.objects.get()
    assert kept.type == "pageview"
    assert kept.url == "http://testserver/shoes?utm_source=bing&utm_medium=cpc"
    assert (kept.referrer, kept.title) == ("https://www.bing.com/", "Shoes")
    assert (kept.channel, kept.source) == ("paid_search", "bing")
    assert people(shop) == [f"cookie:{ident.read(request)}"]


def test_an_event(request_of, shop):
    user = make_user()
    told = {"value": Money(1990, "EUR"), "transaction_id": 1001, "meta": {"size": 42}}
    assert tracking.hit(request_of(user), "purchase", **told)
    assert not tracking.hit(request_of(user), "purchase", **told)
    kept = Hit.objects.get()
    assert (kept.type, kept.event_type.key, kept.minor) == ("event", "purchase", 1990)
    assert (kept.transaction_id, kept.meta) == ("1001", {"size": 42})
    assert people(shop) == [f"user:{user.pk}"]


def test_what_else_it_may_be(request_of):
    assert tracking.hit(request_of(), type="segment", meta={"name": "vip"}, is_informational=True)
    kept = Hit.objects.get()
    assert (kept.type, kept.is_informational) == ("segment", True)


def test_in_another_property(request_of):
    other = make_property(public_key="OTHER")
    assert tracking.hit(request_of(), property="OTHER")
    assert Hit.objects.get().property_id == other.pk


def test_what_cannot_be_recorded(request_of, settings):
    with pytest.raises(UnknownEventType, match=r"^event: "):
        tracking.hit(request_of(), "sale")
    with pytest.raises(UnknownProperty, match=r"^property: "):
        tracking.hit(request_of(), property="NONE")
    with pytest.raises(InvalidHit, match=r"^type: "):
        tracking.hit(request_of(), type="visit")
    settings.AFFILIATE_TRACKING_PROPERTY = ""
    with pytest.raises(UnknownProperty, match=r"^property: "):
        tracking.hit(request_of())
    assert not Hit.objects.exists()


def no(request):
    return False


@pytest.mark.parametrize("why", ["gpc", "consent", "disabled"])
def test_of_whom_nothing_is_recorded(request_of, shop, settings, why):
    headers = {}
    if why == "gpc":
        headers["Sec-GPC"] = "1"
    elif why == "consent":
        settings.AFFILIATE_CONSENT = no
    else:
        shop.active = False
        shop.save()
    request = request_of(**headers)
    assert not tracking.hit(request)
    assert not Identity.objects.exists()
    assert not ident.read(request)


def test_their_cookie_counts_before_the_suites(request_of, shop):
    assert tracking.hit(request_of(cookies={"AttrioP_SHOP": "th3irs"}))
    assert people(shop) == ["cookie:th3irs"]
    tracking.hit(request_of(cookies={"AttrioP_SHOP": "a\nb"}))
    assert len(people(shop)) == 2


def test_a_login_with_their_cookie(request_of, shop):
    anna, bert = make_user(), make_user()
    cookies = {"AttrioP_SHOP": "th3irs"}
    tracking.hit(request_of(cookies=cookies))
    tracking.hit(request_of(anna, cookies))
    assert people(shop) == [f"cookie:th3irs user:{anna.pk}"]
    # At the same computer.
    tracking.hit(request_of(bert, cookies))
    assert people(shop) == [f"cookie:th3irs user:{anna.pk}", f"user:{bert.pk}"]
    assert Hit.objects.filter(identity__value=str(bert.pk)).count() == 1


def test_a_login_makes_one_of_a_browser_and_a_user(shop, settings):
    settings.AFFILIATE_COOKIE = True
    user = make_user()
    browser = Browser()
    refer(browser, make_partner())
    own = ident.of_cookie(browser.cookies["affiliate_ident"].value)
    say(shop, f"cookie:{own}")
    browser.force_login(user)
    browser.post("/login/", {"username": user.username})
    assert people(shop) == [f"cookie:{own} user:{user.pk}"]
    assert Customer.objects.count() == 1


def numbers_of(user):
    return [f"customer-{user.pk}", None, ""]


def test_what_programs_call_a_user_is_the_users(request_of, shop, settings):
    settings.AFFILIATE_TRACKING_CLIENT_IDS = "tests.tracking.test_recording.numbers_of"
    user = make_user()
    say(shop, f"client:customer-{user.pk} cookie:elsewhere")
    tracking.hit(request_of(user))
    assert people(shop) == [f"client:customer-{user.pk} cookie:elsewhere user:{user.pk}"]


def test_a_login_of_a_site_that_is_no_property(settings):
    settings.AFFILIATE_COOKIE = True
    user = make_user()
    browser = Browser()
    refer(browser, make_partner())
    browser.post("/login/", {"username": user.username})
    assert not Customer.objects.exists()


def test_queries(request_of, django_assert_num_queries):
    user = make_user()
    request = request_of(user)
    tracking.hit(request)
    with django_assert_num_queries(1):
        tracking.hit(request)
    with django_assert_num_queries(1):
        tracking.hit(request, "purchase")


def test_there_is_nothing_else_in_the_package():
    with pytest.raises(AttributeError, match="has no attribute 'hits_of'"):
        tracking.hits_of  # noqa: B018
