"""Visitors: who was sent to the site, by whom, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings as django_settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..conf import settings
from ..querysets import VisitorQuerySet
from .partners import Partner

MAX_URL = 2000
MAX_SUB_ID = 200


class Visitor(models.Model):
    """One person's arrival through a partner."""

    partner = models.ForeignKey(
        Partner, models.CASCADE, verbose_name=_("partner"), related_name="visitors"
    )
    user = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("user"),
        related_name="visitors",
        null=True,
        blank=True,
        help_text=_("Who it was, once that is known."),
    )
    ident = models.CharField(
        _("browser"),
        max_length=22,
        blank=True,
        default="",
        editable=False,
        help_text=_("The anonymous id in this browser's cookie, where the site uses one."),
    )
    referred_on = models.DateTimeField(_("referred on"), auto_now_add=True)
    clicked_on = models.DateTimeField(
        _("last click on"),
        default=timezone.now,
        editable=False,
        help_text=_("When they last came through the partner's link; the window counts from it."),
    )
    entry_point = models.URLField(
        _("entry point"),
        max_length=MAX_URL,
        blank=True,
        help_text=_("The page at which they entered the site."),
    )
    successful_on = models.DateTimeField(
        _("successful on"),
        null=True,
        blank=True,
        help_text=_("When they first did what the partner is credited for."),
    )
    click_id = models.CharField(
        _("click id"),
        max_length=MAX_SUB_ID,
        blank=True,
        default="",
        help_text=_("The partner's own id of this click, as it stood in the link."),
    )
    sub_ids = models.JSONField(
        _("sub ids"),
        default=dict,
        blank=True,
        help_text=_("Marks that the partner put into the link: sub1 to sub5."),
    )
    referrer_host = models.CharField(
        _("coming from"),
        max_length=253,
        blank=True,
        default="",
        help_text=_("The site on which the link was followed, if the browser told."),
    )

    objects = VisitorQuerySet.as_manager()

    class Meta:
        verbose_name = _("visitor")
        verbose_name_plural = _("visitors")
        indexes = [
            models.Index(fields=["partner", "referred_on"], name="affiliations_visitor_came"),
            models.Index(fields=["partner", "successful_on"], name="affiliations_visitor_won"),
            models.Index(fields=["user", "clicked_on"], name="affiliations_visitor_user"),
            models.Index(fields=["ident", "clicked_on"], name="affiliations_visitor_ident"),
            models.Index(fields=["referred_on"], name="affiliations_visitor_when"),
        ]

    def __str__(self) -> str:
        return self.entry_point or str(self.pk)

    def why_not(self, now: datetime) -> str:
        """Return why nothing more may be credited to this visit at `now`, "" where it may."""
        if self.clicked_on <= now - settings.WINDOW:
            return "outside the window"
        if settings.END_ON_SUCCESS and self.successful_on is not None:
            return "ended"
        return ""

    def counts_for(self, user_id: Any, *, known_from: str) -> bool:
        """Tell whether this visit may be credited for what a user did; None stands for nobody.

        A visit that is known to be one user's is never another's. A session ends at logout, so
        within one its visitor is still there while nobody is logged in; a cookie does not, and the
        next person may sit at the same browser.
        """
        if self.user_id is None or self.user_id == user_id:
            return True
        return user_id is None and known_from != "cookie"

    def succeed(self, user: Any = None) -> bool:
        """Mark the first success, and tell whether it was this call that did.

        Only then is `user` set, where one is given. Of several calls at once exactly one wins; the
        instance holds afterwards what the database holds.
        """
        changes: dict[str, Any] = {"successful_on": timezone.now()}
        if user is not None and user.pk is not None:
            changes["user_id"] = user.pk
        visitors = Visitor._base_manager.using(self._state.db)
        won = visitors.filter(pk=self.pk, successful_on=None).update(**changes) == 1
        if won:
            for name, value in changes.items():
                setattr(self, name, value)
        else:
            self.refresh_from_db(fields=["successful_on", "user"])
        return won
