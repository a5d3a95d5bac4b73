"""Questions about many rows, as adjectives that chain."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import connections, models
from django.db.models.functions import Coalesce
from django.utils import timezone

from .conf import settings

if TYPE_CHECKING:
    from .models import Callback, Conversion, Partner, Subscription, Visitor  # noqa: F401

#: How long a claimed callback is whoever's who claimed it: longer than a call can take and wait for
#: its thread, so that a lease lapses only under a worker that is gone.
LEASE = timedelta(seconds=60)


class PartnerQuerySet(models.QuerySet["Partner"]):
    """Partners."""

    def active(self) -> Self:
        """Keep those with whom there is a deal."""
        return self.filter(active=True)

    def with_counts(self) -> Self:
        """Add `visitor_count` and `success_count`, each counted on its own index."""
        visitors = self.model._meta.get_field("visitors").related_model._base_manager
        own = visitors.filter(partner=models.OuterRef("pk")).order_by().values("partner")
        count = models.Count("pk")
        return self.annotate(
            visitor_count=_counted(own.annotate(n=count)),
            success_count=_counted(own.filter(successful_on__isnull=False).annotate(n=count)),
        )


def _counted(rows: Any) -> Any:
    return Coalesce(models.Subquery(rows.values("n"), output_field=models.IntegerField()), 0)


class VisitorQuerySet(models.QuerySet["Visitor"]):
    """Visitors."""

    def in_window(self, now: datetime | None = None) -> Self:
        """Keep those whose last click is recent enough."""
        return self.filter(clicked_on__gt=(now or timezone.now()) - settings.WINDOW)

    def creditable(self, now: datetime | None = None) -> Self:
        """Keep those to which something more may be credited, see `Visitor.why_not`."""
        recent = self.in_window(now)
        return recent.filter(successful_on=None) if settings.END_ON_SUCCESS else recent

    def successful(self) -> Self:
        """Keep those who did what their partner is credited for."""
        return self.filter(successful_on__isnull=False)

    def for_partner(self, partner: Partner) -> Self:
        """Keep those whom `partner` sent."""
        return self.filter(partner=partner)


class ConversionQuerySet(models.QuerySet["Conversion"]):
    """Conversions."""

    def standing(self) -> Self:
        """Keep those that were not taken back."""
        return self.filter(reversed_on=None)

    def for_partner(self, partner: Partner) -> Self:
        """Keep those in which `partner` has a share."""
        return self.filter(shares__visitor__partner=partner).distinct()


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    """Subscriptions."""

    def lock_free(self) -> Self:
        """Lock them until the commit, but for those that somebody holds.

        Those are not waited for, which could outlast leases: on MariaDB whoever has written a
        callback holds its subscription to the end of the site's transaction.
        """
        features: Any = connections[self.db].features
        return self.select_for_update(
            skip_locked=features.has_select_for_update_skip_locked,
            no_key=features.has_select_for_no_key_update,
        )


class CallbackQuerySet(models.QuerySet["Callback"]):
    """Callbacks."""

    def due(self, now: datetime | None = None) -> Self:
        """Keep those that wait, and whose time has come."""
        return self.filter(state="pending", due__lte=now or timezone.now())

    def waiting(self) -> Self:
        """Keep those that are still to be delivered, at their time or when they are let go."""
        return self.filter(state__in=("pending", "parked"))

    def leased(self, now: datetime | None = None) -> Self:
        """Keep those that somebody has claimed, and has the time to deliver."""
        # By the date first: the index then goes to the few that fall due soon. Not within one
        # lease's time, as others may have claimed since `now`, or by a clock that is ahead.
        since = now or timezone.now()
        soon = self.filter(state="pending", due__gt=since, due__lte=since + 2 * LEASE)
        return soon.filter(token__isnull=False)

    def claimed(self, callbacks: Iterable[Callback]) -> Self:
        """Keep these, as long as nobody else has claimed them since."""
        by_token: dict[Any, list[int]] = {}
        for each in callbacks:
            by_token.setdefault(each.token, []).append(each.pk)
        theirs = models.Q(pk__in=[])
        for token, pks in by_token.items():
            theirs |= models.Q(token=token, pk__in=pks)
        return self.filter(theirs)

    def for_partner(self, partner: Partner) -> Self:
        """Keep those that go to `partner`."""
        return self.filter(partner=partner)
