"""The pages that people see are recorded, and nothing else."""

import pytest
from django.db import DatabaseError
from django.http import HttpResponse, JsonResponse
from django.test import Client as Browser
from django.urls import path

from affiliations import ident
from affiliations.tracking import hits, middleware
from affiliations.tracking.identities import Name
from affiliations.tracking.models import Hit, Identity
from tests.tracking.factories import make_property, people

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36"


def page(request):
    return HttpResponse("<p>Shoes</p>")


def data(request):
    return JsonResponse({})


def gone(request):
    return HttpResponse("<p>Gone</p>", status=404)


urlpatterns = [
    path("shoes/", page),
    path("admin/shoes/", page),
    path("data/", data),
    path("gone/", gone),
]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


@pytest.fixture(autouse=True)
def shop(settings):
    made = make_property(public_key="SHOP")
    settings.AFFILIATE_TRACKING_PROPERTY = "SHOP"
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "affiliations.tracking.middleware.TrackingMiddleware",
    ]
    return made


def test_a_page_that_is_seen(both_clients, shop):
    url = "/shoes/?utm_source=google&utm_medium=cpc"
    headers = {"User-Agent": CHROME, "Referer": "https://www.google.com/"}
    for _ in range(2):
        assert both_clients.get(url, headers=headers).status_code == 200
    own = ident.of_cookie(both_clients.cookies["affiliate_ident"].value)
    assert people(shop) == [f"cookie:{own}"]
    first, _ = Hit.objects.order_by("pk")
    assert first.type == "pageview"
    assert first.url == f"http://testserver{url}"
    assert (first.channel, first.referrer) == ("paid_search", "https://www.google.com/")


@pytest.mark.parametrize(
    ("where", "headers"),
    [
        ("/data/", {}),
        ("/gone/", {}),
        ("/nowhere/", {}),
        ("/admin/shoes/", {}),
        ("/shoes/", {"User-Agent": "Googlebot/2.1"}),
        ("/shoes/", {"Sec-Purpose": "prefetch"}),
        ("/shoes/", {"Sec-Fetch-Dest": "iframe"}),
        ("/shoes/", {"Sec-Fetch-Dest": "empty"}),
        ("/shoes/", {"X-Requested-With": "XMLHttpRequest"}),
        ("/shoes/", {"Webhook-Id": "x"}),
        ("/shoes/", {"Sec-GPC": "1"}),
    ],
)
def test_what_nobody_sees(where, headers):
    browser = Browser()
    browser.get(where, headers={"User-Agent": CHROME, **headers})
    assert not Hit.objects.exists()
    assert not Identity.objects.exists()
    assert "affiliate_ident" not in browser.cookies


@pytest.mark.parametrize("method", ["post", "head", "options", "put"])
def test_other_methods(method):
    getattr(Browser(), method)("/shoes/", headers={"User-Agent": CHROME})
    assert not Hit.objects.exists()


def test_paths_of_the_sites_own(settings):
    settings.AFFILIATE_TRACKING_EXCLUDE = ["/sho"]
    Browser().get("/shoes/")
    assert not Hit.objects.exists()
    Browser().get("/admin/shoes/")
    assert Hit.objects.count() == 1


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (1, 40), (0.5, None)])
def test_a_sample_of_the_people(settings, share, expected):
    settings.AFFILIATE_TRACKING_SAMPLE = share
    for _ in range(20):
        browser = Browser()
        for _ in range(2):
            browser.get("/shoes/")
    if expected is not None:
        assert Hit.objects.count() == expected
    # Whoever is one of them is so each time.
    for each in Identity.objects.all():
        assert Hit.objects.filter(identity=each).count() == 2


def test_the_sample_is_as_large_as_it_should_be(settings):
    settings.AFFILIATE_TRACKING_SAMPLE = 0.1
    some = sum(middleware.is_sampled(Name("cookie", f"c{number}")) for number in range(20_000))
    assert 1_800 < some < 2_200


def fails(*arguments):
    raise DatabaseError("the disk is full")


@pytest.mark.parametrize("why", ["database", "property", "url"])
def test_a_page_is_shown_whatever_goes_wrong(settings, monkeypatch, caplog, why):
    url = "/shoes/"
    if why == "database":
        monkeypatch.setattr(hits, "record", fails)
    elif why == "property":
        settings.AFFILIATE_TRACKING_PROPERTY = "NONE"
    else:
        url += "?" + "x" * 5000
    assert Browser().get(url).content == b"<p>Shoes</p>"
    assert not Hit.objects.exists()
    assert "could not be recorded" in caplog.text


def test_queries(django_assert_num_queries):
    browser = Browser()
    browser.get("/shoes/")
    with django_assert_num_queries(1):
        browser.get("/shoes/")
