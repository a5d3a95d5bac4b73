"""Partners: their link, what they may be told of, and how they do."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import models, router, transaction
from django.db.models.functions import NullIf
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import callbackurl, charts, egress
from ..exceptions import RefusedDestination
from ..models import Partner, Subscription
from . import figures, sections
from .fields import trigger_choices
from .junk import JunkProofAdmin
from .lists import NOTHING, local
from .pages import Secret, page, reveal


class SubscriptionForm(forms.ModelForm):  # type: ignore[type-arg]
    """A wish to be told, of a trigger that the settings or an app name."""

    class Meta:
        model = Subscription
        fields = ("trigger", "callback_url", "method", "expects")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = trigger_choices(self.instance.trigger, "---------")
        given = self.fields["trigger"]
        self.fields["trigger"] = forms.ChoiceField(
            choices=choices, label=given.label, help_text=given.help_text
        )

    def _post_clean(self) -> None:
        # A row of the predecessor's may hold a URL that would be refused today. Who does not touch
        # it must still be able to save the rest of the page.
        if self.instance.pk is None or self.has_changed():
            super()._post_clean()  # type: ignore[misc]
            if "callback_url" in self.changed_data and not self.errors:
                self._look_where_it_leads()

    def _look_where_it_leads(self) -> None:
        """Refuse a name that stands for an inner address, while somebody is there to mend it."""
        subscription = self.instance
        if not subscription.callback_url:
            return
        try:
            egress.check(callbackurl.render(subscription.callback_url, {}), resolve=True)
        except RefusedDestination as error:
            self.add_error("callback_url", str(error))


class SubscriptionInline(admin.StackedInline):  # type: ignore[type-arg]
    model = Subscription
    form = SubscriptionForm
    # Its own page says whether it is called, and tries it.
    show_change_link = True

    def get_extra(self, request: HttpRequest, obj: Partner | None = None, **kwargs: Any) -> int:
        return 0 if obj is not None and obj.subscriptions.exists() else 1

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "callback_url":
            placeholder = "https://partner.example/called?visitor={visitor_id}"
            attrs = {"class": "vLargeTextField", "placeholder": placeholder, "spellcheck": "false"}
            kwargs["widget"] = forms.TextInput(attrs=attrs)
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class PartnerChangeList(ChangeList):
    """The list of partners, each with its figures; as many queries for a hundred as for one."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        rows: Any = self.root_queryset
        self.root_queryset = rows.with_counts()
        return super().get_queryset(request, exclude_parameters)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        partners = list(self.result_list)
        by_day = figures.visitors_by_day(partners, figures.last_days())
        site = request.build_absolute_uri("/")
        for partner in partners:
            partner.published = partner.link(site)
            partner.by_day = by_day[partner.pk]
        self.result_list = partners


@admin.register(Partner)
class PartnerAdmin(JunkProofAdmin):
    list_display = ("name", "link", "active", "visitors_", "successes", "rate", "last_days")
    list_per_page = 50
    search_fields = ("name", "=uid")
    search_help_text = gettext_lazy("Part of the name, or the whole id in links.")
    readonly_fields = ("uid", "created_on", "changed_on")
    fields = ("name", "active", "users", "uid", "created_on", "changed_on")
    # Not a list of all users: there may be as many as the site has customers.
    raw_id_fields = ("users",)
    inlines = (SubscriptionInline,)
    actions = ("activate", "deactivate", "issue_secret")

    class Media:
        css = {"all": ["affiliations/admin.css"]}
        js = ["affiliations/admin.js"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PartnerChangeList

    def get_autocomplete_fields(self, request: HttpRequest) -> Any:
        """Search users by name where the site's admin knows how."""
        users = self.admin_site._registry.get(get_user_model())
        return ("users",) if users is not None and users.get_search_fields(request) else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow it for a partner of whom nothing is recorded; any other one is deactivated.

        It would take the visitors, perhaps a million, and what was credited along.
        """
        if obj is None or obj.visitors.exists() or obj.callbacks.exists() or obj.api_keys.exists():
            return False
        return super().has_delete_permission(request, obj)

    @admin.display(description=gettext_lazy("link"))
    def link(self, partner: Any) -> str:
        # No <a>: whoever of the staff followed it would become a visitor.
        label = _("Copy the link of %(partner)s") % {"partner": partner}
        return format_html(
            '<code class="aff-copy" data-copy="{}">{}</code>', label, partner.published
        )

    @admin.display(description=gettext_lazy("visitors"), ordering="-visitor_count")
    def visitors_(self, partner: Any) -> str:
        url = self._url("visitor_changelist")
        number = number_format(partner.visitor_count, use_l10n=True, force_grouping=True)
        return format_html('<a href="{}?partner={}">{}</a>', url, partner.uid, number)

    @admin.display(description=gettext_lazy("successes"), ordering="-success_count")
    def successes(self, partner: Any) -> str:
        return number_format(partner.success_count, force_grouping=True)

    @admin.display(
        description=gettext_lazy("rate"),
        ordering=models.ExpressionWrapper(
            -1.0 * models.F("success_count") / NullIf("visitor_count", models.Value(0)),
            models.FloatField(),
        ),
    )
    def rate(self, partner: Any) -> str:
        return _rate(partner)

    @admin.display(description=gettext_lazy("last 30 days"))
    def last_days(self, partner: Any) -> str:
        return charts.sparkline(partner.by_day, title=_in_words(partner.by_day))

    @admin.action(description=gettext_lazy("Activate"), permissions=["change"])
    def activate(self, request: HttpRequest, queryset: Any) -> None:
        count = self._switch(request, queryset, active=True)
        text = ngettext("%(n)s partner is now active.", "%(n)s partners are now active.", count)
        self.message_user(request, text % {"n": count}, messages.SUCCESS)

    @admin.action(description=gettext_lazy("Deactivate"), permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: Any) -> None:
        count = self._switch(request, queryset, active=False)
        text = ngettext(
            "%(n)s partner is not active any more.",
            "%(n)s partners are not active any more.",
            count,
        )
        self.message_user(request, text % {"n": count}, messages.SUCCESS)

    def _switch(self, request: HttpRequest, queryset: Any, *, active: bool) -> int:
        message = _("Activated.") if active else _("Deactivated.")
        changed = list(queryset.filter(active=not active))
        with transaction.atomic(using=router.db_for_write(Partner)):
            for partner in changed:
                partner.active = active
                partner.save(update_fields=["active", "changed_on"])
                self.log_change(request, partner, message)
        return len(changed)

    @admin.action(description=gettext_lazy("Issue a new signing secret"), permissions=["change"])
    def issue_secret(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        partners = list(queryset[:2])
        if len(partners) != 1:
            text = _("Please select one partner: each secret is shown on a page of its own.")
            self.message_user(request, text, messages.ERROR)
            return None
        return HttpResponseRedirect(self._url("partner_secret", partners[0].pk))

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.secret_view)
        name = "affiliations_partner_secret"
        return [path("<path:object_id>/secret/", view, name=name), *super().get_urls()]

    def secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask whether to issue a new signing secret; on a POST issue it, and show it once."""
        partner = self.get_object(request, unquote(object_id))
        if partner is None:
            raise Http404("partner: there is none with this key")
        if not self.has_change_permission(request, partner):
            raise PermissionDenied
        stale = False
        if request.method == "POST":
            secret = self._issued(request, partner)
            if secret is not None:
                return self._reveal(request, partner, secret)
            partner.refresh_from_db()
            stale = True
        return page(
            self,
            request,
            "partner/issue_secret.html",
            title=_("Issue a new signing secret"),
            partner=partner,
            issued=_issued_last(partner),
            stale=stale,
            two_are_valid=partner.previous_until and timezone.now() < partner.previous_until,
        )

    def _issued(self, request: HttpRequest, partner: Partner) -> Secret | None:
        """Issue a secret, unless one was issued since the page that asks was made.

        A second one, from a second click, would end at once what the partner signs by today.
        """
        with transaction.atomic(using=router.db_for_write(Partner)):
            locked = Partner.objects.select_for_update().get(pk=partner.pk)
            if request.POST.get("issued") != _issued_last(locked):
                return None
            secret = Secret(locked.rotate_secret())
            self.log_change(request, locked, _("Issued a new signing secret."))
        partner.previous_until = locked.previous_until
        return secret

    def _reveal(self, request: HttpRequest, partner: Partner, secret: Secret) -> HttpResponse:
        until = partner.previous_until
        ends = date_format(local(until), "DATETIME_FORMAT") if until else NOTHING
        return reveal(
            self,
            request,
            secret,
            row=partner,
            title=_("New signing secret"),
            label=_("Signing secret of %(partner)s") % {"partner": partner},
            notes=[
                _("Hand it to the partner over a safe way. It signs callbacks from now on."),
                _("Until %(until)s the one before it stays valid beside it.") % {"until": ends},
            ],
        )

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        partner = kwargs.get("obj")
        if partner is not None:
            context["panel"] = self._panel(request, partner)
        context["sections"] = sections.made(sections.PARTNER, request, self.admin_site, partner)
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, request: HttpRequest, partner: Partner) -> dict[str, Any]:
        counted: Any = Partner.objects.with_counts().get(pk=partner.pk)
        days = figures.last_days()
        visitors = figures.visitors_by_day([partner], days)[partner.pk]
        conversions = figures.conversions_by_day(partner, days)
        series = [
            charts.Series(_("Visitors"), visitors),
            charts.Series(_("Conversions"), conversions),
        ]
        title = _("Visitors and conversions on each of the last 30 days")
        may_change = self.has_change_permission(request, partner)
        return {
            "link": partner.link(request.build_absolute_uri("/")),
            "visitors": counted.visitor_count,
            "successes": counted.success_count,
            "rate": _rate(counted),
            "visitors_url": f"{self._url('visitor_changelist')}?partner={partner.uid}",
            "words": _in_words(visitors),
            "chart": charts.daily(days, series, title=title),
            "table": charts.table(days, series, caption=title),
            "secret_url": self._url("partner_secret", partner.pk) if may_change else "",
        }

    def _url(self, name: str, *args: Any) -> str:
        return reverse(f"admin:affiliations_{name}", args=args, current_app=self.admin_site.name)


def _rate(partner: Any) -> str:
    if not partner.visitor_count:
        return NOTHING
    percent = 100 * partner.success_count / partner.visitor_count
    return f"{number_format(percent, 1)}\N{NO-BREAK SPACE}%"


def _in_words(values: list[int]) -> str:
    total = sum(values)
    if not total:
        return _("No visitors in the last 30 days")
    text = ngettext(
        "%(total)s visitor in the last 30 days, %(today)s of them today",
        "%(total)s visitors in the last 30 days, %(today)s of them today",
        total,
    )
    return text % {"total": number_format(total, force_grouping=True), "today": values[-1]}


def _issued_last(partner: Partner) -> str:
    """Return what changes with each secret, and tells nothing of it."""
    return partner.previous_until.isoformat() if partner.previous_until else ""
