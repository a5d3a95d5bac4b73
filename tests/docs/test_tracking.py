"""The page that leads to the tracking: what is typed in it works, and does what it says."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import AnonymousUser
from django.template import Context, Template
from django.test import Client as Browser
from django.test import RequestFactory, override_settings
from django.utils.module_loading import import_string

from affiliations import tracking
from affiliations.money import Money
from affiliations.tracking.checks import check_settings
from affiliations.tracking.client import Client
from affiliations.tracking.identities import find_customer
from affiliations.tracking.models import EventType, Hit, Property
from tests.docs.test_docs import DOCS, code, run, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(settings, capsys):
    run("docs/how-to/tracking.md", "property")
    made = Property.objects.get()
    made.public, made.secret, made.purchase = capsys.readouterr().out.split()
    settings.AFFILIATE_TRACKING_PROPERTY = made.public_key
    return made


def test_it_is_installed():
    assert run("docs/how-to/tracking.md", "install", INSTALLED_APPS=[])["INSTALLED_APPS"] == [
        "affiliations.tracking"
    ]
    assert len(run("docs/how-to/tracking.md", "urls")["urlpatterns"]) == 1
    assert run("docs/how-to/tracking.md", "settings").keys() >= {"AFFILIATE_TRACKING_PROPERTY"}
    assert run("docs/how-to/tracking.md", "client-ids")["AFFILIATE_TRACKING_CLIENT_IDS"]


def test_the_middleware():
    names = run("docs/how-to/tracking.md", "middleware", MIDDLEWARE=[])
    [path] = names["MIDDLEWARE"]
    assert import_string(path)
    assert names["AFFILIATE_TRACKING_SAMPLE"] == 0.1
    with override_settings(**{k: v for k, v in names.items() if k.startswith("AFFILIATE_")}):
        assert check_settings(None) == []


def test_the_snippet(shop):
    blocks = [code("docs/how-to/tracking.md", "snippet"), code("docs/how-to/tracking.md", "wait")]
    for block in blocks:
        source = Template("{% load tracking %}" + block)
        page = source.render(Context({"request": RequestFactory().get("/")}))
        assert f'public_key: "{shop.public_key}"' in page
    script = text(Path(tracking.__file__).parent / "templates/affiliations/tracking/snippet.html")
    for block, name in (
        (code("docs/how-to/tracking.md", "track"), "track"),
        (blocks[1], "consent"),
    ):
        assert f"affiliations?.{name}(" in block
        assert f"    {name}(" in script


def test_a_property_and_its_secret(shop):
    assert (shop.public, shop.keep_days) == (shop.public_key, 400)
    assert shop.is_secret(shop.secret)
    assert EventType.objects.get().public_key == shop.purchase


def test_a_view_records_what_was_bought_once(shop):
    request = RequestFactory().get("/thanks")
    request.user = AnonymousUser()
    paid = run("docs/how-to/tracking.md", "hit")["paid"]
    for _ in range(2):
        paid(request, SimpleNamespace(total="19.90", number="R-1001"))
    hit = Hit.objects.get()
    assert (hit.minor, hit.transaction_id, hit.event_type.key) == (1990, "R-1001", "purchase")


def test_what_happens_elsewhere(shop):
    run("docs/how-to/tracking.md", "identify", value=Money(5, "EUR"))
    hit = Hit.objects.get(identity__customer=find_customer(shop, 42))
    assert (hit.type, hit.transaction_id) == ("transaction", "invoice 17")


def test_many_hits():
    told = run("docs/how-to/tracking.md", "redis")
    with override_settings(**{name: told[name] for name in told if name.startswith("AFFIL")}):
        assert check_settings(None) == []


def test_asking(monkeypatch):
    asked = []
    monkeypatch.setattr(Client, "_fetch", lambda self, *args: asked.append((self, *args)))
    run("docs/how-to/tracking.md", "ask")
    assert [each[1:] for each in asked] == [(42, "show_all")]


def test_what_the_api_is_shown_to_take_it_takes(shop):
    page = text(DOCS / "reference" / "tracking-api.md")
    shown = [each.partition("```")[0] for each in page.split("```json\n")[1:]]
    identity, event, customer = map(json.loads, shown)
    identity["identity"]["public_key"] = event["event"]["public_key"] = shop.public_key
    event["event"]["event_public_key"] = shop.purchase
    for path, body in (("identities", identity), ("events", event)):
        answer = Browser().post(f"/attribution/{path}", body, content_type="application/json")
        assert answer.status_code == 201
    answer = Browser().get(
        f"/attribution/api/v1/{shop.public_key}/customers/42",
        headers={"Authorization": f"Bearer {shop.secret}"},
    )
    assert answer.json()["customer"].keys() == customer["customer"].keys()
