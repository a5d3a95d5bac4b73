"""No page of the admin fails at what no database can hold: of any of the suite's models."""

import logging
import random
from itertools import product
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import models, transaction
from django.test import RequestFactory
from django.urls import reverse

from affiliations.admin.exports import ExportMixin
from affiliations.admin.lists import LargeChangeList
from affiliations.models import ApiKey, CallbackAttempt, Subscription
from affiliations.money import Money
from affiliations.outbox import enqueue_test
from affiliations.rewards import ledger, payouts
from affiliations.rewards.models import Entry, PartnerGroup, Payout, PayoutDestination, Review
from tests.core.factories import make_partner
from tests.experiments.factories import make_assignment, make_campaign, make_exclusion
from tests.links.factories import make_transaction
from tests.referrals.factories import make_member
from tests.rewards.factories import account_of, convert, make_rule
from tests.tracking.factories import hit, make_property

pytestmark = pytest.mark.django_db

OURS = [model for model in apps.get_models() if model.__module__.startswith("affiliations.")]
# A page that lists no rows, but asks questions of its own, is a proxy's, and has tests of its own.
ROWS = [model for model in OURS if not model._meta.proxy]
LISTED = [model for model in ROWS if admin.site.is_registered(model)]
EXPORTED = [each for each in LISTED if isinstance(admin.site.get_model_admin(each), ExportMixin)]
HUGE = "9" * 40
#: In UTF-8 no address holds half a letter, but a client may name another coding.
CODING = "raw_unicode_escape"
CHARSET = f"charset={CODING}"
HALF, NUL = "\ud800", "\0"
NUMBERS = (HUGE, str(2**63), "9" * 5000, "x", NUL, HALF)
MOMENTS = (
    "0001-01-01",
    "0001-01-01 00:00:00+14:00",
    "0001-01-01 00:00:00-12:00",
    "9999-12-31",
    "9999-12-31 23:59:59-12:00",
    "99999999-01-01",
    NUL,
    HALF,
)
YEARS = ("99999999", "0", "1", "9999", HUGE, "x", NUL)
DRILLED = ("0001-1-1", "9999-12-31", "9999-12", "2026-2-30", "2026-13", f"{HUGE}-1-1")
ANY = (HUGE, "x", NUL, HALF, "0001-01-01", "9999-12-31")


@pytest.fixture(autouse=True)
def rows(settings):
    """One row at least of each model that has a page."""
    settings.AFFILIATE_APPROVAL = True
    partner = make_partner({"Order placed": "https://partner.example/?v={visitor_id}"})
    subscription = Subscription.objects.get()
    callback = enqueue_test(subscription)
    CallbackAttempt.objects.create(
        callback=callback, number=1, started_on=callback.created_on, duration_ms=1
    )
    ApiKey.objects.issue(name="a program", scopes=[])
    make_transaction()
    make_rule(10)
    PartnerGroup.objects.create(name="Friends").partners.add(partner)
    convert(partner)
    assert Review.objects.exists()
    account = account_of(partner)
    ledger.post(account, Money(10_000, "EUR"), kind=Entry.Kind.CREDIT, key="k")
    PayoutDestination.objects.create(
        holder=account.holder, method="paypal", name="A", email="a@example.com"
    )
    payouts.make_payouts(currency="EUR")
    make_member(make_member())
    hit(make_property(), "cookie:c")
    campaign = make_campaign()
    make_assignment(campaign.groups.get().variations.first())
    make_exclusion()
    assert all(model.objects.exists() for model in LISTED)


def get(client, url, /, **query):
    """Ask for a page with parameters that may be anything."""
    sent = urlencode({name: value.encode(CODING) for name, value in query.items()})
    # Within a savepoint: PostgreSQL would answer nothing more behind an error.
    with transaction.atomic():
        answer = client.get(f"{url}?{sent}", headers={"content-type": f"text/plain; {CHARSET}"})
        transaction.set_rollback(True)
    return answer


def post(client, url, form):
    """Send a form whose values may be anything."""
    body = "".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, values in form.items()
        for value in values
    )
    with transaction.atomic():
        # The client writes it as the charset says.
        kind = f"multipart/form-data; boundary=B; {CHARSET}"
        answer = client.post(url, f"{body}--B--\r\n", content_type=kind)
        transaction.set_rollback(True)
    return answer


def address(model, page, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def parameters(model):
    """Yield what the list of a model may be asked for, but for its periods, and with what."""
    for field in model._meta.concrete_fields:
        if field.is_relation:
            lookups = ("", "__in", "__id__exact")
        elif isinstance(field, models.IntegerField):
            lookups = ("__in", "__gte")
        else:
            lookups = ("", "__in")
        yield from (f"{field.name}{lookup}" for lookup in lookups)
    yield from ("pk", "pk__in", "q", "p", "o", "all", "e", "_popup", "_to_field", "x", "page")
    for each in admin.site.get_model_admin(model).list_filter:
        if isinstance(each, type):
            yield each.parameter_name


def periods(model):
    """Yield what else the list may be asked for, by fields with dates."""
    for field in model._meta.concrete_fields:
        if not isinstance(field, models.DateTimeField):
            continue
        for value in YEARS:
            yield {f"{field.name}__year": value}
        for lookup in ("__gte", "__lt", "__date"):
            for value in MOMENTS:
                yield {f"{field.name}{lookup}": value}
    if name := admin.site.get_model_admin(model).date_hierarchy:
        for value in DRILLED:
            parts = zip(("year", "month", "day"), value.split("-"), strict=False)
            yield {f"{name}__{part}": number for part, number in parts}


full = pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.long)])


def some(asked, model, full):
    """Return a part of what is asked, of each model another: its fields are of the same kinds."""
    listed = list(asked)
    chance = random.Random(model._meta.label)
    return listed if full else chance.sample(listed, -(-len(listed) // 3))


def failed(answers):
    """Return what was answered by an error, of pairs of a question and its answer."""
    return [
        ascii((asked, answer.exc_info[1]))[:300]
        for asked, answer in answers
        if answer.status_code >= 500
    ]


@pytest.fixture
def client(admin_client, monkeypatch):
    admin_client.raise_request_exception = False
    # What is logged of a failure has half letters in it, which nothing can print.
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    return admin_client


@full
@pytest.mark.parametrize("model", LISTED)
def test_lists(client, model, full):
    url = address(model, "changelist")
    asked = some(product(parameters(model), NUMBERS), model, full)
    assert not failed(((name, value), get(client, url, **{name: value})) for name, value in asked)


# What is written without a zone is by the site's clock, which Django only minds in tests.
@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime")
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
@full
@pytest.mark.parametrize("model", LISTED)
def test_periods(client, model, full, zone, settings):
    settings.TIME_ZONE = zone
    url = address(model, "changelist")
    asked = some(periods(model), model, full)
    assert not failed((each, get(client, url, **each)) for each in asked)


@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime")
@full
@pytest.mark.parametrize("model", EXPORTED)
def test_exports(client, model, full):
    url = address(model, "export")
    asked = some([*periods(model), *({"pk__in": value} for value in NUMBERS)], model, full)
    assert not failed((each, get(client, url, **each)) for each in asked)


@pytest.mark.parametrize("model", LISTED)
def test_actions(client, model):
    url = address(model, "changelist")
    found = client.get(url).context.get("action_form")
    names = [name for name, _text in found.fields["action"].choices if name] if found else []
    row = str(model.objects.first().pk)
    before = [*model.objects.order_by("pk").values()]
    for name in [*names, "x"]:
        for keys in ([HUGE], [row, HUGE], ["x"], ["9" * 5000], [NUL], [HALF]):
            for more in ({"index": ["0"]}, {"confirmed": ["yes"]}, {"index": [HUGE]}):
                form = {"action": [name], "_selected_action": keys, **more}
                answer = post(client, url, form)
                assert not failed([(form, answer)])
                assert answer.status_code in (302, 400) or not names, ascii(form)
    assert [*model.objects.order_by("pk").values()] == before


@pytest.mark.parametrize("model", LISTED)
def test_pages(client, model):
    pages = [
        (name, key)
        for name in ("change", "delete", "history")
        for key in (HUGE, f"-{HUGE}", str(2**63), "x", "9" * 5000, "٣", "_00", NUL)
    ]
    answers = [((name, key), get(client, address(model, name, key))) for name, key in pages]
    posts = [((name, key), post(client, address(model, name, key), {})) for name, key in pages]
    assert not failed([*answers, *posts])


@pytest.mark.parametrize("model", LISTED)
def test_forms(client, model):
    """As an address fills them in, and as they are sent."""
    row = model.objects.first()
    request = RequestFactory().get("/")
    request.user = client.get("/admin/").wsgi_request.user
    form = admin.site.get_model_admin(model).get_form(request)
    for url in (address(model, "add"), address(model, "change", row.pk)):
        for junk in ANY:
            filled = get(client, url, **dict.fromkeys(form.base_fields, junk))
            sent = post(client, url, {name: [junk] for name in form.base_fields})
            assert not failed([((url, junk), filled), ((url, junk, "sent"), sent)])


def test_a_fault_of_ours_is_none_of_the_address(client, monkeypatch):
    def broken(*args):
        raise ValueError("ours")

    monkeypatch.setattr(LargeChangeList, "get_results", broken)
    url = address(Payout, "changelist")
    assert client.get(url).status_code == 500
    answer = client.get(url, {"state": "paid"})
    assert (answer.status_code, answer["location"]) == (302, f"{url}?e=1")
    assert client.get(url, {"e": "1"}).status_code == 500


def test_what_is_answered(client):
    url = address(Payout, "changelist")
    for name, value in (("pk__in", "x"), ("created_on__year", "99999999"), ("account", NUL)):
        answer = get(client, url, **{name: value})
        assert (answer.status_code, answer["location"]) == (302, f"{url}?e=1"), name
    assert client.get(f"{url}?e=1").status_code == 200
    form = {"action": "approve", "_selected_action": [HUGE], "index": 0}
    answer = client.post(url, form, follow=True)
    said = [str(message) for message in answer.context["messages"]]
    assert said == ["What was selected is no row of this list. Nothing was done."]
    assert get(client, url, q=HALF).status_code == 400
