"""What is held on a person: shown whole, erased whole, and told in the docs (row P2)."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.core.management.color import no_style
from django.db import connection
from django.db.models import Count, Model, Sum
from django.db.models.signals import pre_delete
from django.utils import timezone

from affiliations import claims, delivery, outbox, privacy, services
from affiliations.exceptions import InvalidTransition
from affiliations.models import (
    Callback,
    CallbackAttempt,
    Conversion,
    Partner,
    Share,
    Subscription,
    Visitor,
)
from affiliations.models.conversions import conversion_key
from affiliations.privacy import export_user, forget_user
from affiliations.testing import assert_converted, callback_server, refer
from affiliations.visits import trail_key
from tests.core.factories import make_partner, make_user, make_visitor

User = get_user_model()
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "privacy.md"
#: So that a key is found as a number that nothing else in the tables is.
FIRST_PK = 1_731_000_000
KINDS = (
    "user",
    "username",
    "email",
    "ident",
    "clickid",
    "subid",
    "entrypoint",
    "referrer",
    "reference",
    "callbackurl",
    "callbackbody",
    "reason",
    "error",
    "digest",
)


def mark(subject: int, kind: str) -> str:
    """Return what is found again of a subject wherever it went, however it was quoted."""
    return f"zq{subject:06d}{kind}"


MARK = re.compile(rf"zq([0-9]{{6}})({'|'.join(set(KINDS) - {'user', 'digest'})})")
USER_PK = re.compile(r"\b1731([0-9]{6})\b")
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


class Subject(NamedTuple):
    """One person, everything about whom leads back to its number."""

    number: int

    @property
    def pk(self) -> int:
        return FIRST_PK + self.number

    @property
    def email(self) -> str:
        return f"{mark(self.number, 'email')}@example.com"

    @property
    def order(self) -> str:
        return f"order {mark(self.number, 'reference')}"

    def visitors(self, partner_id: int) -> list[Visitor]:
        """A visit of theirs; a nameless one of the same browser; one that only led to an order."""
        day = timezone.now() - timedelta(days=1)
        base: dict[str, Any] = {"partner_id": partner_id, "referred_on": day, "clicked_on": day}
        n = self.number
        query = f"u={mark(n, 'username')}&x={mark(n, 'entrypoint')}"
        held = {
            "entry_point": f"https://shop.example/?{query}",
            "click_id": mark(n, "clickid"),
            "sub_ids": {"sub1": mark(n, "subid"), "sub2": quote(self.email)},
            "referrer_host": f"{mark(n, 'referrer')}.example",
        }
        ident = mark(n, "ident")
        return [
            Visitor(pk=10 * n + 1, user_id=self.pk, ident=ident, **held, **base),
            Visitor(pk=10 * n + 2, user=None, ident=ident, **held, **base),
            Visitor(pk=10 * n + 3, user=None, ident="", **held, **base),
        ]

    def conversions(self) -> list[Conversion]:
        """Two of the user's own, and a nameless one of the nameless visit."""
        n = self.number
        made = [
            (10 * n + 1, 10 * n + 1, self.pk, self.email, 1250, "EUR"),
            (10 * n + 2, 10 * n + 3, self.pk, self.order, 99, "JPY"),
            (10 * n + 3, 10 * n + 2, None, f"again {self.order}", None, ""),
        ]
        return [
            Conversion(
                pk=pk,
                visitor_id=visitor_id,
                user_id=user_id,
                trigger="Order placed",
                reference=reference,
                key=conversion_key("Order placed", reference),
                amount_minor=minor,
                currency=currency,
                decision={"policy": "last", "candidates": []},
            )
            for pk, visitor_id, user_id, reference, minor, currency in made
        ]

    def shares(self) -> list[Share]:
        n = self.number
        weights = [(1, 1, "0.7"), (1, 2, "0.3"), (2, 3, "1"), (3, 2, "1")]
        return [
            Share(
                pk=10 * n + place,
                conversion_id=10 * n + conversion,
                visitor_id=10 * n + visitor,
                weight=Decimal(weight),
            )
            for place, (conversion, visitor, weight) in enumerate(weights, start=1)
        ]

    def callbacks(self, partner_id: int) -> list[Callback]:
        n = self.number
        states = [
            (Callback.State.DELIVERED, None),
            (Callback.State.DEAD, None),
            (Callback.State.PENDING, timezone.now()),
        ]
        return [
            Callback(
                pk=10 * n + place,
                webhook_id=f"msg_{n}_{place}",
                partner_id=partner_id,
                conversion_id=10 * n + place,
                method="POST",
                url=f"https://partner.example/{mark(n, 'callbackurl')}?r={quote(self.email)}",
                host="partner.example",
                body=json.dumps({"who": mark(n, "callbackbody"), "mail": self.email}),
                state=state,
                due=due,
                attempts=1,
                reason=f"400 for {mark(n, 'reason')}",
            )
            for place, (state, due) in enumerate(states, start=1)
        ]

    def attempts(self) -> list[CallbackAttempt]:
        n = self.number
        return [
            CallbackAttempt(
                pk=10 * n + place,
                callback_id=10 * n + place,
                number=1,
                started_on=timezone.now(),
                duration_ms=5,
                error=f"no {mark(n, 'error')}",
            )
            for place in (1, 2)
        ]


def seed(number: int) -> list[Subject]:
    """Fill the tables with so many people, of each of whom all kinds of identifiers are held."""
    subjects = [Subject(n) for n in range(1, number + 1)]
    partners = [make_partner({"Order placed": ""}) for _ in range(4)]

    def partner_id(subject: Subject) -> int:
        return partners[subject.number % 4].pk

    def write(model: Any, rows: Iterator[Model]) -> None:
        model.objects.bulk_create(rows, batch_size=2000)
        # The keys were given, and PostgreSQL counts on from where it was.
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
                cursor.execute(statement)

    write(
        User,
        (User(pk=each.pk, username=mark(each.number, "username")) for each in subjects),
    )
    write(Visitor, (row for each in subjects for row in each.visitors(partner_id(each))))
    write(Conversion, (row for each in subjects for row in each.conversions()))
    write(Share, (row for each in subjects for row in each.shares()))
    write(Callback, (row for each in subjects for row in each.callbacks(partner_id(each))))
    write(CallbackAttempt, (row for each in subjects for row in each.attempts()))
    write(
        Partner.users.through,
        (
            Partner.users.through(partner_id=partner_id(each), user_id=each.pk)
            for each in subjects[::3]
        ),
    )
    return subjects


class Scan(NamedTuple):
    """What a full dump of the core's tables holds: of whom, and a fingerprint of each row."""

    hits: dict[int, set[str]]
    rows: dict[tuple[str, Any], int]


def scan(subjects: list[Subject]) -> Scan:
    """Dump each of the core's tables as text, and look for every identifier of every subject."""
    digests = {
        row.key: each.number for each in subjects for row in each.conversions()
    }  # a digest names whoever's reference can be guessed
    hits: dict[int, set[str]] = {}
    rows: dict[tuple[str, Any], int] = {}
    for model in apps.get_app_config("affiliations").get_models(include_auto_created=True):
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in cursor.description]
            place = columns.index(model._meta.pk.column)
            for row in cursor:
                text = "\t".join(map(str, row))
                rows[table, row[place]] = hash(text)
                for number, kind in MARK.findall(text):
                    hits.setdefault(int(number), set()).add(kind)
                for number in USER_PK.findall(text):
                    hits.setdefault(int(number), set()).add("user")
                for digest in DIGEST.findall(text):
                    if digest in digests:
                        hits.setdefault(digests[digest], set()).add("digest")
    return Scan(hits, rows)


def owed() -> dict[str, Any]:
    """Return what partners were credited with: sums by currency, weights by partner."""
    amounts = Conversion.objects.values("currency").order_by("currency")
    weights = Share.objects.values("visitor__partner").order_by("visitor__partner")
    return {
        "amounts": list(amounts.annotate(n=Count("pk"), total=Sum("amount_minor"))),
        "weights": list(weights.annotate(n=Count("pk"), total=Sum("weight"))),
        "successful": Visitor.objects.successful().count(),
    }


class Erasure(NamedTuple):
    """What was found wrong after an erasure, and what was as it should be."""

    left: dict[int, set[str]]
    others_touched: int
    sums_changed: bool
    seconds: float


def erase(forget: Callable[[Any], Any], *, of: int, among: int) -> Erasure:
    """Erase so many subjects among so many, and examine the whole of the tables."""
    subjects = seed(among)
    step = among // of
    leaving = {each.number for each in subjects[::step][:of]}
    before, sums = scan(subjects), owed()
    # Without this the test would prove nothing.
    assert all(before.hits[each.number] == set(KINDS) for each in subjects)
    started = time.monotonic()
    for user in User.objects.filter(pk__in=[FIRST_PK + number for number in leaving]):
        forget(user)
    took = time.monotonic() - started
    after = scan(subjects)
    changed = {key for key, row in before.rows.items() if after.rows.get(key) != row}
    links = Partner.users.through._meta.db_table
    touched = {key for key in changed if key[0] != links and int(key[1]) // 10 not in leaving} | (
        after.rows.keys() - before.rows.keys()
    )
    assert before.rows.keys() - after.rows.keys() <= {key for key in changed if key[0] == links}
    staying = {number: kinds for number, kinds in before.hits.items() if number not in leaving}
    assert {n: kinds for n, kinds in after.hits.items() if n not in leaving} == staying
    return Erasure(
        left={n: kinds for n, kinds in after.hits.items() if n in leaving},
        others_touched=len(touched),
        sums_changed=owed() != sums,
        seconds=took,
    )


@pytest.mark.django_db
def test_nothing_is_left_of_whom_is_erased():
    done = erase(forget_user, of=100, among=500)
    assert done[:3] == ({}, 0, False)


@pytest.mark.long
@pytest.mark.django_db
def test_nothing_is_left_of_whom_is_erased_among_many(capsys):
    done = erase(forget_user, of=1_000, among=100_000)
    assert done[:3] == ({}, 0, False)
    with capsys.disabled():
        print(f"\n{connection.vendor}: 1,000 erased in {done.seconds:.1f} s")  # noqa: T201


def forgets_callbacks(user: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "_erase_content", lambda callbacks: 0)
        forget_user(user)


def forgets_the_nameless(user: Any) -> None:
    def own_only(user: Any, using: str) -> tuple[list[int], list[int]]:
        visits = Visitor.objects.filter(user=user).values_list("pk", flat=True)
        conversions = Conversion.objects.filter(user=user).values_list("pk", flat=True)
        return list(visits), list(conversions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "_held", own_only)
        forget_user(user)


def deletes_the_account_only(user: Any) -> None:
    user.delete()


@pytest.mark.parametrize(
    ("variant", "kinds"),
    [
        (forgets_callbacks, {"callbackurl", "callbackbody", "reason", "error", "email"}),
        (forgets_the_nameless, {"ident", "entrypoint", "clickid", "digest"}),
        (deletes_the_account_only, set(KINDS) - {"user"}),
    ],
)
@pytest.mark.django_db
def test_the_same_test_catches_who_forgets_to_forget(variant, kinds):
    done = erase(variant, of=3, among=9)
    assert len(done.left) == 3
    assert all(kinds <= found for found in done.left.values())
    assert not done.sums_changed


@pytest.mark.django_db
def test_an_erasure_that_went_too_far_would_be_seen():
    def deletes_all(user: Any) -> None:
        forget_user(user)
        Share.objects.all().delete()

    with pytest.raises(AssertionError):
        erase(deletes_all, of=1, among=3)


# What is shown


@pytest.mark.django_db
def test_everything_is_shown_and_nothing_of_others():
    subjects = seed(20)
    for subject in subjects[:5]:
        shown = json.dumps(export_user(User.objects.get(pk=subject.pk)))
        found = {(int(number), kind) for number, kind in MARK.findall(shown)}
        # The digest is made of the reference, which is shown itself.
        assert found == {(subject.number, kind) for kind in KINDS if kind not in ("user", "digest")}
        assert USER_PK.findall(shown) == [f"{subject.number:06d}"]


@pytest.mark.django_db
def test_after_the_erasure_nothing_is_left_to_show():
    seed(3)
    user = User.objects.get(pk=FIRST_PK + 1)
    assert len(export_user(user)["visitors"]) == 3
    forget_user(user)
    assert export_user(user) == {
        "user": str(user.pk),
        "visitors": [],
        "conversions": [],
        "callbacks": [],
        "partner_of": [],
        "links": [],
        "tracking": [],
    }
    assert set(forget_user(user).values()) == {0}


# Two people, one browser


@pytest.mark.django_db
def test_another_user_of_the_same_browser_is_neither_shown_nor_erased(client, settings):
    settings.AFFILIATE_COOKIE = True
    partner = make_partner({"Order placed": ""})
    hers = refer(client, partner, "/?hers=1")
    client.post("/signup/", {"username": "ada"})
    client.post("/order/", {"number": "A-1", "total": "1"})
    client.post("/logout/")
    his = refer(client, partner, "/?his=1")
    client.post("/signup/", {"username": "bob"})
    client.post("/order/", {"number": "B-1", "total": "1"})
    assert hers != his
    assert hers.ident == his.ident != ""
    ada, bob = User.objects.get(username="ada"), User.objects.get(username="bob")
    [bobs] = Conversion.objects.filter(user=bob)
    assert {each["visitor"] for each in bobs.decision["candidates"]} == {his.pk}
    # As a session may know of a visit of hers, or rows from other software.
    bobs.decision["candidates"].append({**bobs.decision["candidates"][0], "visitor": hers.pk})
    bobs.save()

    shown = export_user(bob)
    assert [each["id"] for each in shown["visitors"]] == [his.pk]
    [decision] = [each["decision"] for each in shown["conversions"]]
    assert [each["visitor"] for each in decision["candidates"]] == [his.pk]
    assert "hers" not in json.dumps(shown)

    forget_user(ada)
    his.refresh_from_db()
    assert (his.user, his.ident != "") == (bob, True)
    assert export_user(bob) == shown


# What was written by the flows themselves, not by hand


@pytest.mark.django_db
def test_the_real_flow_leaves_nothing_behind(both_clients, settings, django_assert_max_num_queries):
    settings.AFFILIATE_COOKIE = True
    name = mark(7, "username")
    with callback_server() as server:
        server.answers = [500, 200]
        partner = make_partner(
            {"User registered": server.callback_url, "Order placed": server.callback_url}
        )
        refer(
            both_clients,
            partner,
            f"/?u={name}&click_id={mark(7, 'clickid')}&sub1={mark(7, 'subid')}",
            headers={"Referer": f"https://{mark(7, 'referrer')}.example/"},
        )
        both_clients.post("/signup/", {"username": name})
        both_clients.post("/order/", {"number": mark(7, "reference"), "total": "12.50"})
        delivery.deliver_due(limit=1)
    user = User.objects.get()
    assert_converted("Order placed", user=user)
    ident = Visitor.objects.get().ident
    assert ident
    sums = owed()
    with django_assert_max_num_queries(26):
        erased = forget_user(user)
    assert erased == {
        "visitors": 1,
        "conversions": 2,
        "reversals": 0,
        "canceled": 2,
        "callbacks": 2,
        "partners": 0,
        "transactions": 0,
        "hits": 0,
        "customers": 0,
    }
    found = scan([])
    assert found.hits == {}
    dump = "\n".join(str(row) for row in Visitor.objects.values_list())
    assert ident not in dump
    assert {(each.url, each.body) for each in Callback.objects.all()} == {("", "")}
    assert owed() == sums


@pytest.mark.django_db
def test_waiting_callbacks_are_canceled_and_settled():
    [subject, *_] = seed(1)
    forget_user(User.objects.get(pk=subject.pk))
    callbacks = Callback.objects.order_by("pk")
    assert [each.state for each in callbacks] == ["delivered", "dead", "canceled"]
    canceled = callbacks[2]
    assert canceled.settled_on is not None
    assert canceled.due is canceled.token is None
    assert {each.reason for each in callbacks} == {"erased"}
    assert not claims.Claimer().claim()


@pytest.mark.django_db
def test_what_is_erased_calls_nobody_even_if_it_is_sent_again(monkeypatch):
    [subject, *_] = seed(1)
    forget_user(User.objects.get(pk=subject.pk))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("somebody was called"))
    for callback in Callback.objects.all():
        with pytest.raises(InvalidTransition, match="withdrawn"):
            outbox.send_again(callback)
    assert sum(outbox.send_all_again(Callback.objects.all())) == 0
    # Not even if somebody writes past it all.
    Callback.objects.update(state="pending", due=timezone.now())
    outbox.adopt()
    assert delivery.deliver_due() == (3, 0)


@pytest.mark.django_db
def test_a_worker_that_is_under_way_writes_nothing_back():
    [subject, *_] = seed(1)
    Callback.objects.filter(state="pending").update(url="http://127.0.0.1:9/x")
    outbox.adopt()
    [claimed] = claims.Claimer().claim()
    forget_user(User.objects.get(pk=subject.pk))
    assert not delivery.deliver(claimed)
    assert scan([subject]).hits == {}


@pytest.mark.django_db
def test_what_is_erased_does_not_come_back_with_the_session(client):
    partner = make_partner({"User registered": "", "Order placed": ""})
    visitor = refer(client, partner)
    client.post("/signup/", {"username": "ada"})
    user = User.objects.get()
    forget_user(user)
    assert client.session[trail_key()] == [visitor.pk]
    client.post("/login/", {"username": "ada"})
    client.post("/order/", {"number": "A-1", "total": "1"})
    visitor.refresh_from_db()
    assert visitor.user is None
    assert Conversion.objects.count() == 1


@pytest.mark.django_db
def test_conversions_keep_apart_what_was_apart():
    """Their keys say nothing any more, and are still one for each."""
    visitor = make_visitor(make_partner({"Order placed": ""}), user=make_user())
    for number in range(3):
        assert services.record_conversion(
            trigger="Order placed", reference=f"A-{number}", user=visitor.user
        )
    forget_user(visitor.user)
    assert Conversion.objects.values("key").distinct().count() == 3
    assert set(Conversion.objects.values_list("reference", flat=True)) == {"erased"}


@pytest.mark.django_db
def test_forgetting_is_tied_to_the_deletion_of_an_account_as_the_docs_do_it():
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    site: dict[str, Any] = {}
    exec(code, site)
    subjects = seed(2)
    try:
        User.objects.get(pk=subjects[0].pk).delete()
    finally:
        assert pre_delete.disconnect(site["forget"], sender=User)
    assert scan(subjects).hits.keys() == {2}


# The commands


@pytest.mark.django_db
def test_the_commands_show_and_erase():
    [subject] = seed(1)
    username = mark(1, "username")
    out = StringIO()
    call_command("export_user", username, stdout=out)
    assert json.loads(out.getvalue())["user"] == str(subject.pk)
    out = StringIO()
    call_command("forget_user", username, stdout=out)
    assert out.getvalue().split("\n")[:2] == ["visitors: 3", "conversions: 3"]
    assert scan([subject]).hits == {}


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["export_user", "forget_user"])
def test_a_user_that_is_not_there(command):
    with pytest.raises(CommandError, match="There is no user 'nobody'"):
        call_command(command, "nobody")


# The docs


def test_the_docs_name_every_field_that_is_stored():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    told = {
        (row.split("|")[1].strip(), field)
        for row in rows
        for field in re.findall(r"`([a-z_0-9]+)`", row.split("|")[2])
    }
    stored = {
        (model.__name__, field.name)
        for app in apps.get_app_configs()
        if app.name.startswith("affiliations")
        for model in app.get_models()
        for field in [*model._meta.concrete_fields, *model._meta.local_many_to_many]
        if field.name != "id" and not model._meta.proxy
    }
    assert told == stored
    assert (Subscription.__name__, "trigger") in told
