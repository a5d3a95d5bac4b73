"""What a click on an affiliate link costs: a new visitor's request, answered with the redirect.

Set against its floor, which no implementation goes below: a bare view, in the same stack with an
empty middleware in our place, that inserts the same visitor by the ORM, puts its id into a new
session, and redirects. Once with sessions in the database, once with them in a signed cookie. The
partner's look-up is warm, as at every click but one in a second; tables are emptied between
batches.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.contrib.sessions.models import Session

from affiliations import partners
from affiliations.models import Partner, Visitor

from .runner import Fact, Race, Variant
from .stack import EMPTY, OURS, count, default_stack, environ, serve, wsgi

AT_MOST = 1.15


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what a referred request costs beside its floor."""
    partner = Partner.objects.create(name="Anna", active=True)

    def prepare(calls: int) -> None:
        Visitor.objects.all().delete()
        Session.objects.all().delete()
        partners.active_id(partner.uid)

    for sessions, engine in (("database", "db"), ("signed-cookie", "signed_cookies")):
        own = {"SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}"}
        query = f"?affiliate_id={partner.uid}"
        floor = serve(
            wsgi(default_stack(EMPTY), **own), environ(f"/floor/{partner.pk}/{query}"), "302"
        )
        ours = serve(wsgi(default_stack(OURS), **own), environ(f"/page/{query}"), "302")
        title = f"referred request, {sessions} sessions"
        prepare(1)
        made, least = count(ours), count(floor)
        if Visitor.objects.count() != 2:
            raise RuntimeError(f"{title}: one request in two recorded no visitor, or both")
        yield Race(
            title,
            [Variant("floor", floor), Variant("AffiliateMiddleware", ours, "floor", "×", AT_MOST)],
            prepare=prepare,
            max_calls=200,  # so that the tables stay small
        )
        yield Fact(f"{title}: queries", len(made), "queries", len(least))
    prepare(0)
    partner.delete()
