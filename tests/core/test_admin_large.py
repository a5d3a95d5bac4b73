"""The admin's lists over a million visitors: opened, turned, searched, and timed to be read."""

import random
import time
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from affiliations.models import Callback, Conversion, Partner, Share, Visitor
from affiliations.models.conversions import conversion_key

pytestmark = [
    # MariaDB's ANALYZE commits whatever is under way, and would leave it all to the next test.
    pytest.mark.django_db(transaction=connection.vendor == "mysql"),
    pytest.mark.long,
    pytest.mark.timeout(1200),
]

VISITORS = 1_000_000
PARTNERS = 10_000
USERS = 50_000
SUCCESSFUL = 20  # one in so many
DAYS = 730
BATCH = 10_000


def insert(model, rows, fields):
    """Write rows as fast as the database takes them."""
    quote = connection.ops.quote_name
    names = [model._meta.get_field(name) for name in fields]
    columns = ", ".join(quote(field.column) for field in names)
    marks = ", ".join("%s" for _ in fields)
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({marks})"
    batch = []
    with connection.cursor() as cursor:
        for row in rows:
            prepared = zip(names, row, strict=True)
            batch.append([field.get_db_prep_save(value, connection) for field, value in prepared])
            if len(batch) == BATCH:
                cursor.executemany(sql, batch)
                batch = []
        if batch:
            cursor.executemany(sql, batch)


@pytest.fixture
def say(capsys):
    """Print to whoever waits, at once."""

    def said(text):
        with capsys.disabled():
            print(text, flush=True)  # noqa: T201

    return said


@pytest.fixture
def million(say):
    chance = random.Random(7)
    now = timezone.now()
    clock = time.perf_counter()
    User = get_user_model()
    User.objects.bulk_create(User(username=f"u{n}") for n in range(USERS))
    users = list(User.objects.values_list("pk", flat=True))
    Partner.objects.bulk_create(
        Partner(name=f"Blog {n}", uid=f"uid{n:05}", active=True) for n in range(PARTNERS)
    )
    partners = list(Partner.objects.order_by("uid").values_list("pk", flat=True))
    fields = "partner user ident referred_on clicked_on entry_point successful_on click_id sub_ids"
    fields += " referrer_host"

    def visitors():
        for n in range(VISITORS):
            came = now - timedelta(days=DAYS * (1 - n / VISITORS), seconds=chance.random())
            # A fifth of all come through one of them.
            partner = partners[0] if n % 5 == 0 else partners[int(PARTNERS * chance.random() ** 2)]
            user = users[n % USERS] if n % 3 == 0 else None
            won = came if n % SUCCESSFUL == 0 else None
            page = f"https://shop.example/products/{n % 977}/?utm_campaign=autumn&page={n}"
            yield (
                partner,
                user,
                "",
                came,
                came,
                page,
                won,
                f"c{n}",
                {"sub1": "news"},
                "blog.example",
            )

    insert(Visitor, visitors(), [*fields.split()])
    won = Visitor.objects.filter(successful_on__isnull=False).values_list("pk", "successful_on")
    Conversion.objects.bulk_create(
        (
            Conversion(
                visitor_id=pk,
                trigger="Order placed",
                reference=f"A-{pk}",
                key=conversion_key("Order placed", f"A-{pk}"),
                created_on=when,
            )
            for pk, when in won
        ),
        batch_size=1000,
    )
    credited = Conversion.objects.values_list("pk", "visitor")
    Share.objects.bulk_create(
        (Share(conversion_id=pk, visitor_id=visitor, weight=1) for pk, visitor in credited),
        batch_size=1000,
    )
    Callback.objects.bulk_create(
        (
            Callback(partner_id=partners[0], conversion_id=pk, url="https://p.example/")
            for pk, _ in credited
        ),
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        # As they all do by themselves after a while.
        for model in (Visitor, Conversion, Share, Partner, Callback):
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(
                f"ANALYZE TABLE {table}" if connection.vendor == "mysql" else f"ANALYZE {table}"
            )
            if connection.vendor == "mysql":
                cursor.fetchall()
    say(f"\n{connection.vendor}: loaded in {time.perf_counter() - clock:.0f} s")


def test_every_list_opens_and_the_export_streams(admin_client, million, say):
    year = timezone.now().year - 1
    month = {"referred_on__year": year, "referred_on__month": 5}
    user = get_user_model().objects.get(username="u999")
    newest = Visitor.objects.order_by("-pk").first().pk
    steps = [
        ("list", "visitor", {}),
        ("second page", "visitor", {"p": 2}),
        ("last page", "visitor", {"p": 200}),
        ("oldest first", "visitor", {"o": 5}),
        ("a year", "visitor", {"referred_on__year": year}),
        ("a month", "visitor", month),
        ("a day", "visitor", {**month, "referred_on__day": 17}),
        ("successful", "visitor", {"successful": "yes"}),
        ("a large partner", "visitor", {"partner": "uid00000"}),
        ("a small partner", "visitor", {"partner": "uid09999"}),
        ("11 partners by name", "visitor", {"partner": "Blog 777"}),
        ("111 partners by name", "visitor", {"partner": "Blog 77"}),
        ("all partners by name", "visitor", {"partner": "Blog"}),
        ("search: partner's id", "visitor", {"q": "uid00042"}),
        ("search: user name", "visitor", {"q": user.username}),
        ("search: number", "visitor", {"q": newest}),
        ("search: entry point, many", "visitor", {"q": "autumn"}),
        ("search: entry point, one", "visitor", {"q": "page=500001"}),
        ("search: entry point, none", "visitor", {"q": "winter"}),
        ("list", "conversion", {}),
        ("search: reference", "conversion", {"q": f"A-{newest}"}),
        ("search: partner's id", "conversion", {"q": "uid00000"}),
        ("a large partner", "conversion", {"partner": "uid00000"}),
        ("all partners by name", "conversion", {"partner": "Blog"}),
        ("taken back", "conversion", {"reversed": "yes"}),
        ("list", "callback", {}),
        ("a large partner", "callback", {"partner": "uid00000"}),
        ("given up", "callback", {"state__exact": "dead"}),
        ("list", "partner", {}),
        ("by visitors", "partner", {"o": "4"}),
        ("one's own page", "partner", Partner.objects.get(uid="uid00000").pk),
    ]
    for name, model, query in steps:
        own = isinstance(query, int)
        url = reverse(
            f"admin:affiliations_{model}_{'change' if own else 'changelist'}",
            args=[query] if own else [],
        )
        with CaptureQueriesContext(connection) as captured:
            clock = time.perf_counter()
            response = admin_client.get(url, None if own else query)
            took = time.perf_counter() - clock
        assert response.status_code == 200, (name, query)
        assert len(captured) <= 20
        for each in captured:
            assert "DISTINCT django_datetime" not in each["sql"]
        say(f"  {model:10} {name:28} {took * 1000:7.0f} ms, {len(captured)} queries")

    clock = time.perf_counter()
    url = reverse("admin:affiliations_visitor_export")
    response = admin_client.get(url, {"partner": "uid00000"})
    first = None
    lines = 0
    for chunk in response:
        first = first or time.perf_counter() - clock
        lines += chunk.count(b"\n")
    took = time.perf_counter() - clock
    assert lines == Visitor.objects.filter(partner__uid="uid00000").count() + 1
    say(f"  export of {lines:,} lines: first after {first:.2f} s, all after {took:.1f} s")
