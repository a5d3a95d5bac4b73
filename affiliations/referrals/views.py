"""The pages of referrals: invite friends, follow a share link, and want no more mails."""

from __future__ import annotations

from urllib.parse import quote

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from ..links import qr
from ..middleware import AffiliateRedirect, is_refused
from . import indications, mails, pages, sharing
from .exceptions import NotRegistered, UnknownProgram
from .models import EmailIndication, Member

__all__ = ["follow", "invite", "stop"]

#: Characters of what is written into the form: some hundred addresses.
MAX_TEXT = 10_000
#: Invitations that are shown.
SHOWN = 50
#: By which others a link is shared: each only an address, so that nothing of theirs is loaded. The
#: link follows it.
SHARES = (
    ("mail", gettext_lazy("E-mail"), "mailto:?body="),
    ("whatsapp", "WhatsApp", "https://wa.me/?text="),
    ("telegram", "Telegram", "https://t.me/share/url?url="),
    ("facebook", "Facebook", "https://www.facebook.com/sharer/sharer.php?u="),
    ("x", "X", "https://x.com/intent/post?url="),
)


class InvitationForm(forms.Form):
    """Whom to invite."""

    emails = forms.CharField(
        label=gettext_lazy("Your friends’ e-mail addresses"),
        help_text=gettext_lazy("Separated by commas, blanks or lines."),
        max_length=MAX_TEXT,
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"}),
    )

    def clean_emails(self) -> list[str]:
        """Return the addresses one by one."""
        text: str = self.cleaned_data["emails"]
        return text.replace(",", " ").replace(";", " ").split()


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def invite(request: HttpRequest) -> HttpResponseBase:
    """Show members their share link and what came of it, and let them invite people by e-mail."""
    try:
        member = sharing.member_of(request.user)
    except (UnknownProgram, NotRegistered):
        return render(request, "affiliations/referrals/no_program.html", status=404)
    link = sharing.link_of(request, member)
    form = InvitationForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and _invited(request, member, form, link):
        return redirect(request.path)
    invited = EmailIndication.objects.using(router.db_for_write(EmailIndication))
    rows = invited.filter(indicator=member).order_by("-created_on", "-pk")
    rows = rows.annotate(has_earned=pages.earned(member, "member"))
    quoted = quote(link, safe="")
    context = {
        "member": member,
        "program": member.program,
        "link": link,
        "qr": qr.inline(link) if qr.is_available() else "",
        "shares": [(name, label, f"{address}{quoted}") for name, label, address in SHARES],
        "form": form,
        "stats": pages.stats(member),
        "invitations": rows[:SHOWN],
        "leaders": pages.leaders(member),
    }
    return render(request, "affiliations/referrals/invite.html", context)


def _invited(request: HttpRequest, member: Member, form: InvitationForm, link: str) -> bool:
    """Invite them and say what came of it; false where something has to be said in the form."""
    try:
        with transaction.atomic(using=router.db_for_write(EmailIndication)):
            found = indications.invite(member, form.cleaned_data["emails"], link)
            mails.ask()
    except NotRegistered:
        form.add_error(None, _("The program has ended."))
        return False
    except ValueError:
        form.add_error("emails", _("These are too many at once."))
        return False
    if found.saved:
        number = len(found.saved)
        text = ngettext("%(n)s friend is invited.", "%(n)s friends are invited.", number)
        messages.success(request, text % {"n": number})
    # Whether somebody else has invited them, or they want none, is nobody's business.
    reasons = {each.reason for each in found.refused}
    wrong = [each.email for each in found.refused if each.reason == "invalid"]
    if wrong:
        shown = ", ".join(each[:60] for each in wrong[:5])
        messages.warning(request, _("No e-mail addresses: %(emails)s") % {"emails": shown})
    if "own" in reasons:
        messages.warning(request, _("You cannot invite yourself."))
    if "limit" in reasons:
        messages.warning(request, _("Some have to wait: you have invited many lately."))
    if reasons & {"indicated", "unwanted"}:
        messages.warning(request, _("Some were invited before, or want no invitations."))
    return True


@require_safe
def follow(request: HttpRequest, code: str) -> HttpResponse:
    """Lead whoever follows a share link to the site's front page, as a link with its key does."""
    if request.method == "GET" and not is_refused(request):
        sharing.arrive(request, code, "/")
    return AffiliateRedirect("/")


@never_cache
@csrf_exempt  # a mail program posts it, by RFC 8058; whoever has the token was sent it
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whether somebody wants no more invitations, and on a POST see to it."""
    done = request.method == "POST" and indications.refuse_mails(token)
    return render(request, "affiliations/referrals/stop.html", {"done": done})
