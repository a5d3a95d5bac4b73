"""Tell of every touchpoint and conversion that the installed apps know, as two relations of SQL.

Touchpoints are the hits of the tracking that brought somebody, the visits of the core, and the
clicks through links; each column is the same whatever it comes from. Times are whole microseconds
since 1970, and people are texts, so that every engine orders and joins them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, NamedTuple

from django.apps import apps
from django.conf import settings as django_settings
from django.db import connections, models, router
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce, NullIf
from django.utils import timezone

from ..models import Conversion, Visitor

__all__ = [
    "CONVERSIONS",
    "DIMENSIONS",
    "PEOPLE",
    "TOUCHPOINTS",
    "Relation",
    "conversions",
    "microseconds",
    "moment",
    "people",
    "sibling",
    "touchpoints",
]

#: What a report may tell apart.
DIMENSIONS = (
    "partner",
    "link",
    "channel",
    "campaign",
    "source",
    "medium",
    "sub1",
    "sub2",
    "sub3",
    "sub4",
    "sub5",
)
#: Columns, and what Ibis calls their types. `touch` is a number of its own for each touchpoint,
#: and `is_hit` tells the hits from visits and clicks, which they may be the landing of. Who
#: somebody is, the `person`, may turn out later; `who` stays, and PEOPLE tells the person of each.
TOUCHPOINTS = {
    "person": "string",
    "who": "int64",
    "touch": "int64",
    "touched_at": "int64",
    "is_hit": "int64",
    **dict.fromkeys(DIMENSIONS, "string"),
}
CONVERSIONS = {
    "conversion": "int64",
    "person": "string",
    "who": "int64",
    "converted_at": "int64",
    "trigger": "string",
    "amount_minor": "int64",
    "currency": "string",
}
PEOPLE = {"who": "int64", "person": "string"}
#: Of a visit, or a click through a link: what nobody has said.
DIRECT = "direct"
AFFILIATE = "affiliate"
#: A visit of which the link's own click tells; of the same moment, but by another clock's look.
SAME = timedelta(minutes=1)
#: Between the first and the last click of a visit, which are noted one after the other.
LATER = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Numbers of touchpoints: those of different tables, and of the two moments of a row.
KINDS = 8
HIT, VISIT, CLICK, CONVERSION = 0, 1, 3, 5

_Text = models.TextField


class Relation(NamedTuple):
    """A query and its parameters, on a database."""

    sql: str
    params: tuple[Any, ...]
    using: str

    def only(self, names: Iterable[str]) -> Relation:
        """Return some of its columns, in this order."""
        quote = connections[self.using].ops.quote_name
        columns = ", ".join(map(quote, names))
        return self._replace(sql=f"SELECT {columns} FROM ({self.sql}) r")  # noqa: S608 # nosec B608

    def of(self, others: Relation) -> Relation:
        """Return the rows of those people alone that another relation has rows of."""
        person = connections[self.using].ops.quote_name("person")
        theirs = f"SELECT c.{person} FROM ({others.sql}) c"  # noqa: S608 # nosec B608
        sql = f"SELECT r.* FROM ({self.sql}) r WHERE r.{person} IN ({theirs})"  # noqa: S608 # nosec B608
        return self._replace(sql=sql, params=(*self.params, *others.params))

    def batches(self, size: int = 50_000) -> Iterator[list[Any]]:
        """Run it, and yield its rows, at most so many at a time."""
        connection = connections[self.using]
        with connection.chunked_cursor() as cursor:
            cursor.execute(self.sql, self.params)
            while rows := cursor.fetchmany(size):
                yield rows

    def can_be_copied(self) -> bool:
        """Tell whether PostgreSQL is to write the rows, by a driver that has it do so."""
        connection = connections[self.using]
        if connection.vendor != "postgresql":
            return False
        with connection.cursor() as cursor:
            return hasattr(cursor.cursor, "copy")

    def copy_to(self, file: BinaryIO) -> None:
        """Write the rows as CSV, in which nothing at all is NULL, and what is quoted is not."""
        with connections[self.using].cursor() as cursor:
            statement = f"COPY ({self.sql}) TO STDOUT (FORMAT csv)"
            with cursor.cursor.copy(statement, self.params) as blocks:
                for block in blocks:
                    file.write(block)


class Microseconds(models.Func):
    """A moment as whole microseconds since 1970, in UTC."""

    output_field = models.BigIntegerField()
    arity = 1

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(EXTRACT(EPOCH FROM %(expressions)s) * 1000000 AS bigint)"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', %(expressions)s)"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # A text, in which the fraction of a second, if any, stands from the 21st character on.
        template = (
            "(CAST(strftime('%%%%s', substr(%(expressions)s, 1, 19)) AS INTEGER) * 1000000"
            " + CAST(substr(%(expressions)s, 21, 6) AS INTEGER))"
        )
        sql, params = self.as_sql(compiler, connection, template=template, **context)
        return sql, (*params, *params)


class Prefixed(models.Func):
    """A text with a letter before it, NULL where there is no text."""

    output_field = _Text()

    def __init__(self, letter: str, text: Any) -> None:
        super().__init__(models.Value(letter, output_field=_Text()), Cast(text, _Text()))

    template = "(%(expressions)s)"
    arg_joiner = " || "

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="CONCAT(%(expressions)s)", arg_joiner=", ", **context
        )


def microseconds(moment: datetime) -> int:
    """Return whole microseconds from 1970 to a moment; a naive one is by UTC, as rows have it."""
    aware = moment if timezone.is_aware(moment) else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def moment(number: int) -> datetime:
    """Return the moment that is so many microseconds from 1970, as the rows have moments."""
    found = EPOCH + timedelta(microseconds=number)
    return found if django_settings.USE_TZ else found.replace(tzinfo=None)


def sibling(app: str, name: str) -> Any:
    """Return a model of a sibling app, None where it is not installed."""
    if not apps.is_installed(f"affiliations.{app}"):
        return None
    return apps.get_model(f"affiliations_{app}", name)


def _properties() -> list[int]:
    """Return the property that this site is, where it says which, or else all of them."""
    rows = sibling("tracking", "Property").objects.using(router.db_for_read(Visitor))
    key = getattr(django_settings, "AFFILIATE_TRACKING_PROPERTY", "")
    return list((rows.filter(public_key=key) if key else rows).values_list("pk", flat=True))


def _person(letter: str, user: str, ident: str, pk: str) -> Any:
    """Return who somebody is who has a user, or a browser, or neither.

    Whoever the tracking knows is its customer.
    """
    known: list[Any] = []
    identity = sibling("tracking", "Identity")
    if identity is not None and (properties := _properties()):
        values = {"user": Cast(models.OuterRef(user), _Text()), "cookie": models.OuterRef(ident)}
        for kind, value in values.items():
            # By all three columns of the index that there is.
            rows = identity.objects.filter(property__in=properties, kind=kind, value=value)
            known.append(
                Prefixed("c", models.Subquery(rows.order_by("customer").values("customer")[:1]))
            )
    return Coalesce(
        *known,
        Prefixed("u", models.F(user)),
        Prefixed("i", NullIf(models.F(ident), models.Value("", output_field=_Text()))),
        Prefixed(letter, models.F(pk)),
    )


def _numbered(pk: str, kind: int) -> Any:
    return models.F(pk) * KINDS + kind


def _said(name: str) -> Any:
    return NullIf(Cast(models.F(name), _Text()), models.Value("", output_field=_Text()))


def _nothing() -> Any:
    return Cast(models.Value(None), _Text())


def _row(rows: Any, kind: int, moment: str, **columns: Any) -> Any:
    """Return the rows with the columns of TOUCHPOINTS, in their order."""
    columns = {
        "touch": _numbered("pk", kind),
        "touched_at": Microseconds(models.F(moment)),
        "is_hit": models.Value(int(kind == HIT), output_field=models.IntegerField()),
        **columns,
    }
    named = {f"aff_{name}": columns.get(name) or _nothing() for name in TOUCHPOINTS}
    return rows.order_by().annotate(**named).values_list(*named)


def _subs(path: str) -> dict[str, Any]:
    # Of some networks' numbers JSON makes numbers, which are the same text here.
    return {
        name: Cast(KeyTextTransform(name, f"{path}sub_ids"), _Text())
        for name in ("sub1", "sub2", "sub3", "sub4", "sub5")
    }


def _hits(between: Callable[[str], models.Q], of: Relation | None) -> Iterator[Any]:
    hit = sibling("tracking", "Hit")
    if hit is None or not (properties := _properties()):
        return
    # Somebody who came from nowhere that they told of: a page of the site's own tells of itself.
    came = ~models.Q(channel="") | models.Q(referrer="", type__in=("pageview", "screen"))
    rows = hit.objects.filter(
        between("happened_on"), came, property__in=properties, is_informational=False
    )
    if of is not None:
        # By number, as the texts of who they are have no index.
        customers = RawSQL(*_customers(of))  # noqa: S611 # nosec B611 # our own SQL
        rows = rows.filter(identity__customer_id__in=customers)
    direct = models.Value(DIRECT, output_field=_Text())
    yield _row(
        rows,
        HIT,
        "happened_on",
        person=Prefixed("c", models.F("identity__customer")),
        who=_numbered("identity_id", HIT),
        partner=models.F("partner__uid"),
        link=_said("link"),
        channel=Coalesce(_said("channel"), direct),
        campaign=_said("campaign"),
        source=_said("source"),
        medium=_said("medium"),
        **_subs("visitor__"),
    )


def _clicks(between: Callable[[str], models.Q]) -> Iterator[Any]:
    transaction = sibling("links", "Transaction")
    if transaction is None:
        return
    for number, (moment, further) in enumerate(_moments("created_on")):
        yield _row(
            transaction.objects.filter(between(moment), further),
            CLICK + number,
            moment,
            person=_person("t", "user_id", "ident", "pk"),
            who=_numbered("pk", CLICK),
            partner=models.F("link__partner__uid"),
            link=models.F("path"),
            channel=models.Value(AFFILIATE, output_field=_Text()),
            **_subs("visitor__"),
        )


def _visits(between: Callable[[str], models.Q]) -> Iterator[Any]:
    transaction = sibling("links", "Transaction")
    for number, (moment, further) in enumerate(_moments("referred_on")):
        rows = Visitor.objects.filter(between(moment), further)
        if transaction is not None:
            around = (models.OuterRef(moment) - SAME, models.OuterRef(moment) + SAME)
            told = models.Q(created_on__range=around) | models.Q(clicked_on__range=around)
            clicks = transaction.objects.filter(told, visitor=models.OuterRef("pk"))
            rows = rows.filter(~models.Exists(clicks))
        yield _row(
            rows,
            VISIT + number,
            moment,
            person=_person("v", "user_id", "ident", "pk"),
            who=_numbered("pk", VISIT),
            partner=models.F("partner__uid"),
            channel=models.Value(AFFILIATE, output_field=_Text()),
            source=_said("referrer_host"),
            **_subs(""),
        )


def _moments(first: str) -> Sequence[tuple[str, models.Q]]:
    """Return the two moments that a row tells of: its first click, and its last if later."""
    return (first, models.Q()), ("clicked_on", models.Q(clicked_on__gt=models.F(first) + LATER))


def _customers(of: Relation) -> tuple[str, tuple[Any, ...]]:
    """Return the SQL, and its parameters, of the tracking's customers among some people."""
    connection = connections[of.using]
    person = f"c.{connection.ops.quote_name('person')}"
    kind = {"mysql": "signed"}.get(connection.vendor, "bigint")
    # Not by WHERE, before which a database may read the number of somebody else.
    number = f"CASE WHEN SUBSTR({person}, 1, 1) = 'c' THEN CAST(SUBSTR({person}, 2) AS {kind}) END"
    return f"SELECT {number} FROM ({of.sql}) c", of.params  # noqa: S608 # nosec B608


def touchpoints(since: datetime, until: datetime, of: Relation | None = None) -> Relation:
    """Return the touchpoints from `since` on and before `until`, with the columns of TOUCHPOINTS.

    In no order; of those people alone that `of` has rows of, if it is given. What somebody did who
    is nobody's identity any more is not among them.
    """

    def between(moment: str) -> models.Q:
        return models.Q(**{f"{moment}__gte": since, f"{moment}__lt": until})

    using = router.db_for_read(Visitor)
    parts = [*_hits(between, of), *_clicks(between), *_visits(between)]
    found = _united([each.using(using) for each in parts], list(TOUCHPOINTS), using)
    return found if of is None else found.of(of)


def conversions(since: datetime, until: datetime, trigger: str = "") -> Relation:
    """Return the conversions from `since` on and before `until`, with the columns of CONVERSIONS.

    Of a `trigger` only, if it is named. Those that were taken back whole are not among them, and of
    the others the amount is what still stands.
    """
    using = router.db_for_read(Conversion)
    rows = Conversion.objects.using(using).filter(
        created_on__gte=since, created_on__lt=until, reversed_on=None
    )
    if trigger:
        rows = rows.filter(trigger=trigger)
    columns = {
        "conversion": models.F("pk"),
        "person": _whose(),
        "who": _numbered("pk", CONVERSION),
        "converted_at": Microseconds(models.F("created_on")),
        "trigger": models.F("trigger"),
        "amount_minor": models.F("amount_minor") - models.F("reversed_minor"),
        "currency": _said("currency"),
    }
    named = {f"aff_{name}": columns[name] for name in CONVERSIONS}
    return _united(
        [rows.order_by().annotate(**named).values_list(*named)], list(CONVERSIONS), using
    )


def people() -> Relation:
    """Return who each `who` of touchpoints and conversions is now, with the columns of PEOPLE."""
    using = router.db_for_read(Visitor)
    kinds: list[tuple[Any, int, Any]] = [
        (Visitor, VISIT, _person("v", "user_id", "ident", "pk")),
        (Conversion, CONVERSION, _whose()),
    ]
    if (transaction := sibling("links", "Transaction")) is not None:
        kinds.append((transaction, CLICK, _person("t", "user_id", "ident", "pk")))
    if (identity := sibling("tracking", "Identity")) is not None:
        kinds.append((identity, HIT, Prefixed("c", models.F("customer"))))
    parts = []
    for model, kind, person in kinds:
        rows = model.objects.using(using).order_by()
        named = {"aff_who": _numbered("pk", kind), "aff_person": person}
        parts.append(rows.annotate(**named).values_list(*named))
    return _united(parts, list(PEOPLE), using)


def _whose() -> Any:
    of_the_visit = _person("v", "visitor__user_id", "visitor__ident", "visitor_id")
    if sibling("tracking", "Identity") is None:
        return Coalesce(Prefixed("u", models.F("user_id")), of_the_visit)
    of_the_user = _person("u", "user_id", "visitor__ident", "user_id")
    return Coalesce(of_the_user, of_the_visit)


def _united(parts: Sequence[Any], names: Sequence[str], using: str) -> Relation:
    sqls, params = [], []
    for each in parts:
        sql, given = each.query.get_compiler(using=using).as_sql()
        sqls.append(sql)
        params += given
    quote = connections[using].ops.quote_name
    # A union takes the names of its first part.
    named = ", ".join(f"u.{quote(f'aff_{each}')} AS {quote(each)}" for each in names)
    united = " UNION ALL ".join(sqls)
    return Relation(f"SELECT {named} FROM ({united}) u", tuple(params), using)  # noqa: S608 # nosec B608
