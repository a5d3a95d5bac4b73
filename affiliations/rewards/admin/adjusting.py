"""Post an adjustment to an account: a sum that nothing but somebody's word is behind."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext as _

from ...admin.amounts import amount, told
from ...admin.pages import page
from ...exceptions import InvalidTransition
from ...savepoints import retried
from .. import ledger
from ..models import Account, Entry
from .forms import AdjustmentForm


class AdjustingMixin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Accounts to which whoever may add entries can post one."""

    def may_adjust(self, request: HttpRequest, account: Account) -> bool:
        """Tell whether somebody may; the site's own are only ever the other side."""
        return not account.is_site and request.user.has_perm("affiliations_rewards.add_entry")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.adjust_view)
        name = "affiliations_rewards_account_adjust"
        return [path("<path:object_id>/adjust/", view, name=name), *super().get_urls()]

    def adjust_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for an adjustment, show what it would change, and post it once that is confirmed."""
        account = self.get_object(request, unquote(object_id))
        if account is None:
            raise Http404("account: there is none with this key")
        if not self.has_view_permission(request, account) or not self.may_adjust(request, account):
            raise PermissionDenied
        form = AdjustmentForm(account, data=request.POST if request.method == "POST" else None)
        is_good = form.is_valid()
        if is_good and request.POST.get("confirmed"):
            return self._adjusted(request, account, form)
        return page(
            self,
            request,
            "account/adjust.html",
            title=_("Post an adjustment"),
            account=account,
            form=form,
            preview=_preview(account, form) if is_good and not request.POST.get("again") else None,
        )

    def _adjusted(
        self, request: HttpRequest, account: Account, form: AdjustmentForm
    ) -> HttpResponse:
        """Post it, and say what was done."""
        money = form.cleaned_data["amount"]
        try:
            posted = retried(lambda: self._post(request, account, form), router.db_for_write(Entry))
        except InvalidTransition:
            text = _("This form had posted another sum before, so nothing was done. Begin anew.")
            self.message_user(request, text, messages.ERROR)
        else:
            values = {"money": told(money)}
            if posted:
                self.message_user(request, _("%(money)s was posted.") % values, messages.SUCCESS)
            else:
                text = _("%(money)s had been posted before, by the same form: once is enough.")
                self.message_user(request, text % values, messages.WARNING)
        url = reverse(
            "admin:affiliations_rewards_account_change",
            args=[account.pk],
            current_app=self.admin_site.name,
        )
        return HttpResponseRedirect(url)

    def _post(self, request: HttpRequest, account: Account, form: AdjustmentForm) -> bool:
        """Return whether it was posted now, and not by a click before."""
        # Of two clicks at once the second waits here until it can see what the first has done.
        ledger.lock([account.pk], router.db_for_write(Entry))
        is_new = not ledger.has_posted(form.key)
        given = form.cleaned_data
        ledger.post(
            account,
            given["amount"],
            kind=Entry.Kind.ADJUSTMENT,
            key=form.key,
            memo=given["memo"],
            available_on=form.available_on,
        )
        if is_new:
            money = given["amount"]
            values = {"money": told(money), "memo": given["memo"]}
            self.log_change(
                request, account, _("Posted an adjustment of %(money)s: %(memo)s") % values
            )
        return is_new


def _preview(account: Account, form: AdjustmentForm) -> dict[str, Any]:
    """Return what there is now, and what there would be."""
    money, before = form.cleaned_data["amount"], ledger.balance(account)
    now = 0 if form.available_on else money.minor
    sums = (
        (_("Owed"), before.total, before.total + money.minor),
        (_("Available"), before.available, before.available + now),
        (_("Held"), before.held, before.held + money.minor - now),
    )
    return {
        "money": told(money),
        "memo": form.cleaned_data["memo"],
        "is_less": money.minor < 0,
        "sums": [
            (label, *(amount(each, account.currency) for each in pair)) for label, *pair in sums
        ],
    }
