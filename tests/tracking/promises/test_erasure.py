"""Row P2 of the promises over the whole suite: nothing is left of whom is erased, in no table."""

import json
import re
import time
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management.color import no_style
from django.db import connection
from django.db.models import QuerySet, Value
from django.db.models.functions import Concat, Replace, Upper
from django.utils import timezone

from affiliations.models import Partner
from affiliations.privacy import export_user, forget_user
from affiliations.signals import user_forgotten
from affiliations.tracking import privacy
from affiliations.tracking.models import Customer, Hit, Identity
from tests.core.test_privacy import FIRST_PK, USER_PK, Subject, mark, owed, seed
from tests.tracking.factories import make_property

User = get_user_model()

KINDS = (
    "user",
    "email",
    "ident",
    "alias",
    "client",
    "page",
    "referrer",
    "title",
    "campaign",
    "clickid",
    "transaction",
    "meta",
)
MARK = re.compile(rf"zq([0-9]{{6}})({'|'.join(KINDS[1:])})")
#: Rows of each table that belong to nobody.
SHARED = frozenset({Partner.users.through._meta.db_table})


def names_of(subject: Subject) -> list[tuple[int, int, str, str]]:
    """Return each name of somebody's: of which of their customers, where, and what it is.

    One is known by all that leads to them, another by the browser's cookie alone, and two by an
    address, as which the programs of a site know people, too.
    """
    n = subject.number
    return [
        (1, 0, "user", str(subject.pk)),
        (1, 0, "email", subject.email),
        (1, 0, "cookie", mark(n, "ident")),
        (1, 0, "cookie", mark(n, "alias")),
        (1, 0, "client", mark(n, "client")),
        (2, 1, "cookie", mark(n, "ident")),
        (3, 1, "email", subject.email),
        (4, 2, "client", subject.email),
    ]


def told_of(subject: Subject) -> dict[str, Any]:
    """Return what leads back to somebody in every field of a hit."""
    n = subject.number
    return {
        "url": f"https://shop.example/{mark(n, 'page')}?u={mark(n, 'campaign')}",
        "referrer": f"https://{mark(n, 'referrer')}.example/",
        "title": mark(n, "title"),
        "source": mark(n, "campaign"),
        "term": subject.email,
        "click_ids": {"gclid": mark(n, "clickid")},
        "transaction_id": mark(n, "transaction"),
        "meta": {"who": mark(n, "meta"), "user": subject.pk},
    }


def fill(number: int) -> list[Subject]:
    """Fill the tables of the core and the tracking with so many people."""
    subjects = seed(number)
    properties = [make_property() for _ in range(3)]
    now = timezone.now()

    def write(model: Any, rows: Any) -> None:
        model.objects.bulk_create(rows, batch_size=2000)
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
                cursor.execute(statement)

    # As people write their addresses, by the name that the core's seed gave them.
    User.objects.update(
        email=Concat(
            Replace(Upper("username"), Value("USERNAME"), Value("EMAIL")), Value("@Example.com")
        )
    )
    named = [
        (each, place, *row)
        for each in subjects
        for place, row in enumerate(names_of(each), start=1)
    ]
    customers = {(each.number, whose): where for each, _, whose, where, _, _ in named}
    write(
        Customer,
        (
            Customer(pk=10 * n + whose, property=properties[where])
            for (n, whose), where in customers.items()
        ),
    )
    write(
        Identity,
        (
            Identity(
                pk=10 * each.number + place,
                customer_id=10 * each.number + whose,
                property=properties[where],
                kind=kind,
                value=value,
            )
            for each, place, whose, where, kind, value in named
        ),
    )
    write(
        Hit,
        (
            Hit(
                pk=10 * each.number + place,
                identity_id=10 * each.number + place,
                property=properties[where],
                type="transaction",
                happened_on=now,
                visitor_id=10 * each.number + 1,
                **told_of(each),
            )
            for each, place, _, where, _, _ in named
        ),
    )
    return subjects


def scan() -> tuple[dict[int, set[str]], dict[tuple[str, Any], int]]:
    """Dump all tables of the suite as text; return who is found by what, and each row's hash."""
    found: dict[int, set[str]] = {}
    rows: dict[tuple[str, Any], int] = {}
    for app in apps.get_app_configs():
        if not app.name.startswith("affiliations"):
            continue
        for model in app.get_models(include_auto_created=True):
            table = model._meta.db_table
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {table}")
                columns = [column[0] for column in cursor.description]
                place = columns.index(model._meta.pk.column)
                for row in cursor:
                    text = "\t".join(map(str, row))
                    rows[table, row[place]] = hash(text)
                    for number, kind in MARK.findall(text):
                        found.setdefault(int(number), set()).add(kind)
                    for number in USER_PK.findall(text):
                        found.setdefault(int(number), set()).add("user")
    return found, rows


def erased(forget: Any, *, of: int, among: int) -> tuple[dict[int, set[str]], float]:
    """Erase so many among so many; return what is left of them, and the seconds.

    Nothing else may be changed by it, and nobody be owed anything else.
    """
    subjects = fill(among)
    leaving = {each.number for each in subjects[:: among // of][:of]}
    found, rows = scan()
    sums = owed()
    # Without this the test would prove nothing.
    assert all(found[each.number] == set(KINDS) for each in subjects)
    started = time.monotonic()
    for user in User.objects.filter(pk__in=[FIRST_PK + number for number in leaving]):
        forget(user)
    took = time.monotonic() - started
    left, after = scan()
    changed = {key for key, row in rows.items() if after.get(key) != row}
    assert {pk // 10 for table, pk in changed if table not in SHARED} <= leaving
    assert not after.keys() - rows.keys()
    assert {n: kinds for n, kinds in left.items() if n not in leaving} == {
        n: kinds for n, kinds in found.items() if n not in leaving
    }
    assert owed() == sums
    return {n: kinds for n, kinds in left.items() if n in leaving}, took


@pytest.mark.django_db
def test_nothing_is_left_of_whom_is_erased():
    left, _ = erased(forget_user, of=20, among=100)
    assert left == {}
    assert Customer.objects.count() == 80 * 4
    assert Hit.objects.count() == Identity.objects.count() == 80 * 8


@pytest.mark.long
@pytest.mark.django_db
def test_nothing_is_left_of_whom_is_erased_among_many(capsys):
    left, took = erased(forget_user, of=1_000, among=100_000)
    assert left == {}
    with capsys.disabled():
        print(f"\n{connection.vendor}: 1,000 erased in {took:.1f} s")  # noqa: T201


def forgets_the_tracking(user: Any) -> None:
    told = {"dispatch_uid": "affiliations.tracking.forget"}
    assert user_forgotten.disconnect(**told)
    try:
        forget_user(user)
    finally:
        user_forgotten.connect(privacy.forget, **told)


def knows_them_by_their_key_alone(user: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "_names", lambda user, idents: privacy.names_of(user))
        forget_user(user)


def forgets_what_they_did(user: Any) -> None:
    delete = QuerySet._raw_delete
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            QuerySet,
            "_raw_delete",
            lambda rows, using: 0 if rows.model is Hit else delete(rows, using),
        )
        forget_user(user)


@pytest.mark.parametrize(
    ("variant", "kinds"),
    [
        (forgets_the_tracking, set(KINDS)),
        (knows_them_by_their_key_alone, {"ident", "email", "page"}),
        (forgets_what_they_did, set(KINDS) - {"ident", "alias", "client"}),
    ],
)
@pytest.mark.django_db
def test_teeth_who_forgets_to_forget(variant, kinds):
    left, _ = erased(variant, of=3, among=9)
    assert len(left) == 3
    assert all(kinds <= found for found in left.values()), left


@pytest.mark.django_db
def test_teeth_an_erasure_that_goes_too_far():
    def deletes_all(user: Any) -> None:
        forget_user(user)
        Hit.objects.all().delete()

    with pytest.raises(AssertionError):
        erased(deletes_all, of=1, among=3)


@pytest.mark.django_db
def test_everything_is_shown_and_nothing_of_others():
    for subject in fill(10)[:3]:
        shown = json.dumps(export_user(User.objects.get(pk=subject.pk))["tracking"])
        assert {(int(n), kind) for n, kind in MARK.findall(shown)} == {
            (subject.number, kind) for kind in KINDS[1:]
        }
        assert set(USER_PK.findall(shown)) == {f"{subject.number:06d}"}
