"""Members: who they are, who brought them, whom they have brought, and what both have of it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import connections, models, router
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.amounts import amount
from ...admin.lists import (
    BOUND,
    FEW,
    NOTHING,
    RecordAdmin,
    happened,
    link,
    local,
    number,
)
from ...rewards import ledger
from ...rewards.admin.accounts import owed
from ...rewards.admin.wording import moment
from ...rewards.admin.wording import number as written
from ...rewards.models import Account
from ...sums import halves, joined
from .. import services, statements
from ..exceptions import NotRegistered
from ..models import Member, Operation, Program
from ..models.members import MAX_HASH
from . import wording

#: Of whom somebody has brought, on a page.
MOST_BROUGHT = 25
#: Operations on a page.
MOST_OPERATIONS = 50
#: Characters of a hash in a table: one of 64 would leave no room for what else there is.
MOST_OF_HASH = 14
#: What is behind every hash that begins like another: they are of visible ASCII.
BEHIND = "\x7f"


class MemberForm(forms.ModelForm):  # type: ignore[type-arg]
    """Somebody who comes by themselves, such as the first one of a program."""

    class Meta:
        model = Member
        fields = ("user_hash", "program", "user")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        program: Any = self.fields.get("program")
        if program is not None:
            program.queryset = Program.objects.filter(active=True).order_by("pk")
            program.help_text = _("One that somebody can register in now.")
        user: Any = self.fields.get("user")
        if user is not None:
            user.help_text = _("If they have an account here.")

    def clean_program(self) -> Any:
        """Refuse a program that has not begun, or is over."""
        program = self.cleaned_data["program"]
        if not program.is_open(timezone.now()):
            raise ValidationError(_("Nobody can register in it now."), code="invalid")
        return program


@admin.register(Member)
class MemberAdmin(RecordAdmin):
    form = MemberForm
    list_display = ("user_hash", "user_", "since", "indicator_", "state")
    list_filter = ("program", happened("indicator", gettext_lazy("being brought by somebody")))
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("user_hash",)
    search_help_text = gettext_lazy("How a hash, a share code or a user’s name begins.")
    change_form_template = "admin/affiliations_referrals/member/change_form.html"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_autocomplete_fields(self, request: HttpRequest) -> Any:
        """Search users by name where the site's admin knows how."""
        users = self.admin_site._registry.get(get_user_model())
        return ("user",) if users is not None and users.get_search_fields(request) else ()

    # Not a list of all users: there may be as many as the site has customers.
    raw_id_fields = ("user",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("user_hash", "program", "user") if obj is None else ()

    # The list

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("program", "indicator", "user")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        named = _users(term)
        for found in (
            models.Q(user_hash=term),
            models.Q(code=term),
            _beginning("user_hash", term),
            _beginning("code", term),
        ):
            if Member.objects.filter(found).exists():
                return queryset.filter(found | models.Q(user__in=named)), False
        return queryset.filter(user__in=named), False

    @admin.display(description=gettext_lazy("user"))
    def user_(self, member: Member) -> Any:
        return link(self.admin_site, member.user) if member.user else NOTHING

    @admin.display(description=gettext_lazy("program"))
    def since(self, member: Member) -> str:
        day = date_format(local(member.registered_on), "DATE_FORMAT")
        return format_html(
            '{}<span class="aff-line">{}</span>',
            link(self.admin_site, member.program),
            _("since %(day)s") % {"day": day},
        )

    @admin.display(description=gettext_lazy("brought by"))
    def indicator_(self, member: Member) -> Any:
        if member.indicator is None:
            return NOTHING
        return link(self.admin_site, member.indicator, most=MOST_OF_HASH)

    @admin.display(description=gettext_lazy("has paid"))
    def state(self, member: Member) -> Any:
        return format_html(
            '{}<span class="aff-line">{}</span>',
            amount(member.paid_minor, member.currency),
            wording.standing(member),
        )

    # Adding one

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        made = services.register(obj.user_hash, program=obj.program, user=obj.user)
        obj.__dict__.update(made.__dict__)

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Say so where somebody was faster."""
        try:
            return super().add_view(request, *args, **kwargs)
        except NotRegistered as error:
            self.message_user(request, str(error), messages.ERROR)
            name = "admin:affiliations_referrals_member_add"
            return HttpResponseRedirect(reverse(name, current_app=self.admin_site.name))

    # A member's page

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        member = kwargs.get("obj")
        if member is not None:
            context["panel"] = self._panel(member)
            brought, before = (number(request.GET.get(name, "")) for name in ("brought", "before"))
            context["brought"] = self._brought(member, brought, before)
            context["statement"] = self._statement(member, brought, before)
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, member: Member) -> dict[str, Any]:
        counted = Member.objects.filter(indicator=member).order_by()[: BOUND + 1].count()
        accounts = list(Account.objects.filter(holder=member.holder).order_by("currency"))
        found = ledger.balances(accounts)
        return {
            "code": member.code,
            "user": self.user_(member),
            "program": link(self.admin_site, member.program),
            "indicator": link(self.admin_site, member.indicator, most=MAX_HASH)
            if member.indicator
            else NOTHING,
            "registered_on": moment(member.registered_on),
            "brought": f"{written(min(counted, BOUND))}{'+' if counted > BOUND else ''}",
            "percent": wording.percent(member),
            "far": wording.far(member),
            "stake": wording.stake(member),
            "accounts": [
                {
                    "link": link(self.admin_site, each, each.currency),
                    "total": owed(found[each.pk], each),
                    "available": amount(found[each.pk].available, each.currency),
                    "held": amount(found[each.pk].held, each.currency),
                }
                for each in accounts
            ],
        }

    def _brought(self, member: Member, brought: Any, before: Any) -> dict[str, Any]:
        rows = Member.objects.filter(indicator=member).order_by("-pk")
        page = rows if brought is None else rows.filter(pk__lt=brought)
        found = list(page[: MOST_BROUGHT + 1])
        shown = found[:MOST_BROUGHT]
        return {
            "rows": [
                {
                    "link": link(self.admin_site, each, most=MOST_OF_HASH),
                    "when": local(each.registered_on),
                    "paid": amount(each.paid_minor, each.currency),
                    "badge": wording.standing(each),
                }
                for each in shown
            ],
            "newest": _query(before=before) if brought is not None else "",
            "older": _query(brought=shown[-1].pk, before=before)
            if len(found) > MOST_BROUGHT
            else "",
        }

    def _statement(self, member: Member, brought: Any, before: Any) -> dict[str, Any]:
        page = statements.statement(member, before=before, limit=MOST_OPERATIONS)
        sums = _sums(member, page.operations[0].pk) if page.operations else {}
        rows = []
        for each in page.operations:
            currency = each.about.currency
            entry: Any = each.entry
            rows.append(
                {
                    "when": local(each.created_on),
                    "kind": each.get_kind_display(),
                    "about": NOTHING
                    if each.about_id == member.pk
                    else link(self.admin_site, each.about, most=MOST_OF_HASH),
                    "amount": NOTHING
                    if entry is None
                    else amount(each.minor, currency, signed=True),
                    "is_less": each.minor < 0,
                    "sum": NOTHING if entry is None else amount(sums[currency], currency),
                    "entry_url": self._entry_url(entry),
                }
            )
            sums[currency] = sums.get(currency, 0) - each.minor
        return {
            "rows": rows,
            "newest": _query(brought=brought) if before is not None else "",
            "older": _query(brought=brought, before=page.older) if page.older is not None else "",
        }

    def _entry_url(self, entry: Any) -> str:
        """Return where an entry stands on its account's page; nothing where there is no such."""
        if entry is None:
            return ""
        name = "admin:affiliations_rewards_account_change"
        try:
            url = reverse(name, args=[entry.account_id], current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        return f"{url}?before={entry.pk + 1}#entry-{entry.pk}"


def _beginning(field: str, term: str) -> models.Q:
    """Return the condition that a field begins so, as the index of each database can find it."""
    if not term.isascii():
        return models.Q(pk__in=[])
    if connections[router.db_for_read(Member)].vendor == "postgresql":
        # It has an index for this, and orders others as a language does.
        return models.Q(**{f"{field}__startswith": term})
    return models.Q(**{f"{field}__gte": term, f"{field}__lt": term + BEHIND})


def _users(term: str) -> list[Any]:
    """Return the keys of a few users whose names begin so."""
    User: Any = get_user_model()
    rows = User._default_manager.filter(**{f"{User.USERNAME_FIELD}__startswith": term})
    return list(rows.order_by().values_list("pk", flat=True)[:FEW])


def _sums(member: Member, last: int) -> dict[str, int]:
    """Return what somebody was credited up to an operation, it included, by currency."""
    rows = Operation.objects.filter(member=member, pk__lte=last, entry__isnull=False).order_by()
    asked = rows.values("about__currency").annotate(**halves("sum", "entry__minor"))
    return {row["about__currency"]: joined(row, "sum") for row in asked}


def _query(**numbers: Any) -> str:
    given = [f"{name}={value}" for name, value in numbers.items() if value is not None]
    return f"?{'&'.join(given)}"
