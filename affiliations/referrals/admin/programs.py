"""Programs: what is promised, in words and in major units, and what has come of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ... import charts
from ...admin.amounts import amounts
from ...admin.fields import MomentField, major_of, minor_of
from ...admin.figures import day_of, last_days, starts_of
from ...admin.lists import LargeChangeList, RecordAdmin, list_link
from ...money import DECIMAL_PLACES
from ...rewards.admin.wording import number
from ...sums import halves, joined
from ..models import Member, Operation, Program
from . import wording

#: Fields that hold minor units, and are typed into in major ones.
AMOUNTS = ("credit_minor", "target_minor", "reward_minor")
Kind = Operation.Kind


def _amount(label: Any, help_text: Any, *, required: bool = True) -> forms.DecimalField:
    return forms.DecimalField(label=label, required=required, min_value=0, help_text=help_text)


class ProgramForm(forms.ModelForm):  # type: ignore[type-arg]
    """A program, for people: sums in major units."""

    currency = forms.ChoiceField(
        label=gettext_lazy("Currency"),
        choices=[(code, code) for code in sorted(DECIMAL_PLACES)],
        help_text=gettext_lazy("Of every sum in here. It stays once there are members."),
    )
    credit_minor = _amount(
        gettext_lazy("Credit at sign-up"),
        gettext_lazy("As 5 or 7.50: what somebody who was brought receives at once. 0: nothing."),
    )
    target_minor = _amount(
        gettext_lazy("Target"),
        gettext_lazy(
            "As 100: what they must have paid to you before whoever brought them is credited. "
            "0: that is so at once."
        ),
    )
    reward_minor = _amount(
        gettext_lazy("Reward"),
        gettext_lazy(
            "As 20: what whoever brought them receives then. Empty: as much as the target. "
            "0: nothing."
        ),
        required=False,
    )
    valid_from = MomentField(
        label=gettext_lazy("Valid from"),
        required=False,
        help_text=gettext_lazy("Nobody can register before it. Empty: from now on."),
    )
    valid_until = MomentField(
        label=gettext_lazy("Valid until"),
        required=False,
        help_text=gettext_lazy(
            "Nobody can register after it; what was promised by then is still kept. "
            "Empty: without an end."
        ),
    )

    class Meta:
        model = Program
        fields = (
            "name",
            "active",
            "currency",
            "credit_minor",
            "target_minor",
            "reward_minor",
            "depth",
            "max_per_indicator",
            "max_referrals",
            "valid_from",
            "valid_until",
        )
        help_texts = {
            "name": gettext_lazy("As “Bring a friend”. The billing system is told it, too."),
            "active": gettext_lazy(
                "Take the tick away to end it: nobody can register any more, and its members stay."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        program: Program = self.instance
        if program.pk is None:
            self.initial.setdefault("currency", program.currency)
            return
        for name in AMOUNTS:
            self.initial[name] = major_of(getattr(program, name), program.currency)
        currency: Any = self.fields.get("currency")
        if currency is not None:
            if program.currency not in DECIMAL_PLACES:
                currency.choices = [*currency.choices, (program.currency, program.currency)]
            currency.disabled = has_members(program)

    def clean(self) -> None:
        """Turn sums into minor units."""
        super().clean()
        data: Any = self.cleaned_data
        currency = data.get("currency") or ""
        for name in AMOUNTS:
            if data.get(name) is None:
                continue
            # Without a currency there is no saying, and the form asks for one.
            try:
                data[name] = minor_of(data[name], currency) if currency in DECIMAL_PLACES else 0
            except ValidationError as error:
                self.add_error(name, error)


def has_members(program: Program) -> bool:
    """Tell whether anybody is in a program."""
    return Member.objects.filter(program=program).exists()


class ProgramChangeList(LargeChangeList):
    """The list of programs, each with its members; as many queries for a hundred as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        programs = list(self.result_list)
        rows = Member.objects.filter(program__in=[each.pk for each in programs]).order_by()
        counted = rows.values("program").annotate(n=models.Count("pk"))
        found = dict(counted.values_list("program", "n"))
        for program in programs:
            program.member_count = found.get(program.pk, 0)
        self.result_list = programs


@admin.register(Program)
class ProgramAdmin(RecordAdmin):
    form = ProgramForm
    list_display = ("name", "promise", "members_", "badge")
    list_filter = ("active",)
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("name",)
    search_help_text = gettext_lazy("Part of the name.")
    fieldsets = (
        (None, {"fields": ("name", "active")}),
        (
            gettext_lazy("What is promised"),
            {"fields": ("currency", "credit_minor", "target_minor", "reward_minor")},
        ),
        (
            gettext_lazy("Limits"),
            {"fields": ("depth", "max_per_indicator", "max_referrals")},
        ),
        (gettext_lazy("When somebody can register"), {"fields": ("valid_from", "valid_until")}),
    )
    seen_fields = ("name", "promise", "badge", "depth", "max_per_indicator", "max_referrals")

    # Who may do what

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # One by one, on a page that says what stands against it.
        return obj is not None and admin.ModelAdmin.has_delete_permission(self, request, obj)

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LargeChangeList]:
        return ProgramChangeList

    @admin.display(description=gettext_lazy("promised"))
    def promise(self, program: Program) -> str:
        return wording.promise(program)

    @admin.display(description=gettext_lazy("members"))
    def members_(self, program: Any) -> Any:
        return self._members(program, number(program.member_count))

    @admin.display(description=gettext_lazy("state"))
    def badge(self, program: Program) -> Any:
        return wording.badge(program)

    def _members(self, program: Program, text: Any) -> Any:
        return list_link(self.admin_site, Member, text, program__id__exact=program.pk)

    # A program's page

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return [(None, {"fields": (*self.seen_fields, "valid_from", "valid_until")})]
        return super().get_fieldsets(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Say what to do instead where there are members: they keep what was promised to them."""
        program = self.get_object(request, unquote(object_id))
        is_there = program is not None and has_members(program)
        if is_there and self.has_delete_permission(request, program):
            return self._stays(request, object_id)
        try:
            return super().delete_view(request, object_id, *args, **kwargs)
        except models.ProtectedError:
            # Somebody has registered since the page was opened.
            return self._stays(request, object_id)

    def _stays(self, request: HttpRequest, object_id: str) -> HttpResponseRedirect:
        text = _(
            "The program has members, who keep what was promised to them: it cannot be deleted. "
            "Take the tick at “Active” away, and nobody can register in it any more."
        )
        self.message_user(request, text, messages.ERROR)
        name = "admin:affiliations_referrals_program_change"
        url = reverse(name, args=[object_id], current_app=self.admin_site.name)
        return HttpResponseRedirect(url)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        program = kwargs.get("obj")
        if program is not None:
            # As it is stored: a form with errors has put what was typed into the other one.
            stored = self.get_object(request, program.pk)
            context["panel"] = stored and self._panel(stored)
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, program: Program) -> dict[str, Any]:
        """Return what has come of a program: three queries."""
        rows = Member.objects.filter(program=program)
        counted = rows.aggregate(
            members=models.Count("pk"),
            brought=models.Count("indicator"),
            reached=models.Count("acquired_on"),
        )
        sums = credited(program)
        days = last_days()
        registered, brought = registered_by_day(rows, days)
        title = _("Who has registered on each of the last 30 days")
        series = [
            charts.Series(_("Registered"), registered),
            charts.Series(_("Brought by others"), brought),
        ]
        words = ngettext(
            "%(n)s has registered in the last 30 days",
            "%(n)s have registered in the last 30 days",
            sum(registered),
        )
        return {
            "promise": wording.promise(program),
            "badge": wording.badge(program),
            "members": self._members(program, number(counted["members"])),
            "has_members": counted["members"] > 0,
            "brought": number(counted["brought"]),
            "reached": number(counted["reached"]),
            "signup": amounts(sums[Kind.SIGNUP_CREDIT]),
            "potential": amounts(sums[Kind.POTENTIAL_CREDIT]),
            "acquired": amounts(sums[Kind.ACQUIRED_CREDIT]),
            "words": words % {"n": number(sum(registered))},
            "chart": charts.daily(days, series, title=title),
            "table": charts.table(days, series, caption=title),
        }


def credited(program: Program) -> dict[Any, dict[str, int]]:
    """Return what was credited for a program's members, by its kind and its currency."""
    rows = Operation.objects.filter(about__program=program, entry__isnull=False).order_by()
    found: dict[Any, dict[str, int]] = {kind: {} for kind in Kind}
    asked = rows.values("kind", "about__currency").annotate(**halves("sum", "entry__minor"))
    for row in asked:
        found[row["kind"]][row["about__currency"]] = joined(row, "sum")
    return found


def registered_by_day(rows: Any, days: Sequence[date]) -> tuple[list[int], list[int]]:
    """Return how many of `rows` registered on each day, and how many of these others brought."""
    starts = starts_of(days)
    asked = (
        rows.filter(registered_on__gte=starts[0])
        .values(day=day_of("registered_on", starts))
        .annotate(n=models.Count("pk"), brought=models.Count("indicator"))
        .order_by()
    )
    all_of_them, brought = [0] * len(days), [0] * len(days)
    for row in asked:
        all_of_them[row["day"]], brought[row["day"]] = row["n"], row["brought"]
    return all_of_them, brought
