"""Tell how the delivery of callbacks does: for staff, for scripts, and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Count, Min, Q
from django.utils import timezone

from .models import Callback, CallbackAttempt, Destination, Partner

__all__ = ["HOURS", "attempts_by_hour", "figures", "prometheus"]

#: Of which attempts the rate is told, and the settled ones are counted.
LAST_MINUTE = timedelta(minutes=1)
LAST_DAY = timedelta(days=1)
HOURS = 48
#: Stands for the calls that are made on no partner's behalf.
NOBODYS = "(no partner)"

State = Callback.State
COUNTED = ("due", "in_flight", "waiting", "parked", "dead", "refused")
#: Of the last minute.
RATES = ("attempts", "delivered")


def figures(now: datetime | None = None) -> dict[str, Any]:
    """Return what waits and what failed, in all and for each partner, as JSON can hold it.

    `due`: should be sent now; `in_flight`: is being sent; `waiting`: has its time to come;
    `parked`: its subscription is switched off; `dead`, `refused`: in the last 24 hours. `oldest`:
    seconds for which the longest due one has been due. `attempts`, `delivered`: in the last minute.
    `hosts`: those that fail.
    """
    now = now or timezone.now()
    partners = _by_partner(now)
    failing = Destination.objects.exclude(failures=0).order_by("-failures", "host")
    return {
        "at": now.isoformat(),
        "total": {
            **{name: sum(each[name] for each in partners) for name in (*COUNTED, *RATES)},
            "oldest": max((each["oldest"] for each in partners), default=0.0),
        },
        "partners": partners,
        "hosts": [
            {
                "host": each.host,
                "failures": each.failures,
                "failing_since": each.failing_since and each.failing_since.isoformat(),
                "paused_until": each.paused_until
                and (each.paused_until.isoformat() if each.paused_until > now else None),
            }
            for each in failing[:100]
        ],
    }


def _by_partner(now: datetime) -> list[dict[str, Any]]:
    waiting = Q(state=State.PENDING)
    recent = Q(settled_on__gte=now - LAST_DAY)
    due = waiting & Q(due__lte=now)
    leased = waiting & Q(due__gt=now, token__isnull=False)
    counted = (
        Callback.objects.filter(
            Q(state__in=[State.PENDING, State.PARKED])
            | Q(state__in=[State.DEAD, State.REFUSED]) & recent
        )
        .order_by()
        .values("partner")
        .annotate(
            due_=Count("pk", filter=due),
            in_flight=Count("pk", filter=leased),
            pending=Count("pk", filter=waiting),
            parked=Count("pk", filter=Q(state=State.PARKED)),
            dead=Count("pk", filter=Q(state=State.DEAD)),
            refused=Count("pk", filter=Q(state=State.REFUSED)),
            since=Min("due", filter=due),
        )
    )
    lately = (
        CallbackAttempt.objects.filter(started_on__gte=now - LAST_MINUTE)
        .order_by()
        .values(partner=models.F("callback__partner"))
        .annotate(attempts=Count("pk"), delivered=Count("pk", filter=_delivered()))
    )
    rows: dict[int | None, dict[str, Any]] = {}
    for row in (*counted, *lately):
        rows.setdefault(row["partner"], {"since": None}).update(row)
    names = Partner.objects.filter(pk__in=[pk for pk in rows if pk]).order_by("name", "pk")
    whose: list[tuple[int | None, str, str]] = [*names.values_list("pk", "uid", "name")]
    if None in rows:
        whose.append((None, "", NOBODYS))
    return [_as_figures(uid, name, rows[pk], now) for pk, uid, name in whose]


def _as_figures(uid: str, name: str, row: dict[str, Any], now: datetime) -> dict[str, Any]:
    due, in_flight = row.get("due_", 0), row.get("in_flight", 0)
    return {
        "uid": uid,
        "name": name,
        "due": due,
        "in_flight": in_flight,
        "waiting": row.get("pending", 0) - due - in_flight,
        **{key: row.get(key, 0) for key in ("parked", "dead", "refused", *RATES)},
        "oldest": round((now - (row["since"] or now)).total_seconds(), 1),
    }


def _delivered() -> Q:
    return Q(status__gte=200, status__lt=300)


def attempts_by_hour(now: datetime | None = None) -> tuple[list[int], list[int]]:
    """Return the attempts of each of the last 48 hours: those that arrived, those that did not.

    The latest hour is last, and ends now: whole hours, counted backwards.
    """
    now = now or timezone.now()
    starts = [now - timedelta(hours=HOURS - position) for position in range(HOURS)]
    # By comparison only: to truncate a date, SQLite calls Python for each row.
    hour = models.Case(
        *(
            models.When(started_on__lt=end, then=models.Value(position))
            for position, end in enumerate(starts[1:])
        ),
        default=models.Value(HOURS - 1),
        output_field=models.IntegerField(),
    )
    counted = (
        CallbackAttempt.objects.filter(started_on__gte=starts[0])
        .order_by()
        .values(hour=hour)
        .annotate(n=Count("pk"), good=Count("pk", filter=_delivered()))
    )
    arrived, failed = [0] * HOURS, [0] * HOURS
    for row in counted:
        arrived[row["hour"]] = row["good"]
        failed[row["hour"]] = row["n"] - row["good"]
    return arrived, failed


def prometheus(found: dict[str, Any]) -> str:
    """Return `figures` in Prometheus' text format, version 0.0.4."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield "# HELP affiliations_callbacks Callbacks by partner and state; dead and refused of a day."
    yield "# TYPE affiliations_callbacks gauge"
    for partner in found["partners"]:
        for name in COUNTED:
            labels = f'partner="{_escaped(partner["uid"])}",state="{name}"'
            yield f"affiliations_callbacks{{{labels}}} {partner[name]}"
    yield "# HELP affiliations_callbacks_oldest_seconds How long the longest due one has been due."
    yield "# TYPE affiliations_callbacks_oldest_seconds gauge"
    yield f"affiliations_callbacks_oldest_seconds {found['total']['oldest']}"
    yield "# HELP affiliations_attempts_last_minute Calls made in the last minute."
    yield "# TYPE affiliations_attempts_last_minute gauge"
    for partner in found["partners"]:
        delivered = partner["delivered"]
        for outcome, number in (
            ("delivered", delivered),
            ("failed", partner["attempts"] - delivered),
        ):
            labels = f'partner="{_escaped(partner["uid"])}",outcome="{outcome}"'
            yield f"affiliations_attempts_last_minute{{{labels}}} {number}"
    yield "# HELP affiliations_hosts_failing Hosts whose last call failed."
    yield "# TYPE affiliations_hosts_failing gauge"
    yield f"affiliations_hosts_failing {len(found['hosts'])}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
