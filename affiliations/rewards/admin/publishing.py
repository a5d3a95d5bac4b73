"""What publishing a rule comes to, in words, for whoever has to agree."""

from __future__ import annotations

import hashlib
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.translation import gettext as _

from ..models import CommissionRule
from ..models.rules import AGREED, LEAD
from . import wording

#: What somebody has to have seen of a draft to publish it.
SHOWN = ("name", *(name for name in AGREED if name != "published_on"), "valid_until")


class SeenForm(forms.Form):
    """What the page that asks has shown, to be told from what is there when it is answered."""

    seen = forms.CharField(widget=forms.HiddenInput)


def seen(rule: CommissionRule) -> str:
    """Return what changes with whatever of a rule can change."""
    values = repr([(name, str(getattr(rule, name))) for name in SHOWN])
    return hashlib.sha256(values.encode(errors="replace")).hexdigest()


def successor(rule: CommissionRule) -> CommissionRule | None:
    """Return the published rule that has replaced a rule, if there is one."""
    return CommissionRule.objects.filter(replaces=rule, published_on__isnull=False).first()


def not_publishable(rule: CommissionRule) -> str:
    """Return why a rule cannot be published, in words; "" where it can."""
    if rule.is_published:
        return _("“%(rule)s” is published already.") % {"rule": rule}
    if rule.replaces is not None and (other := successor(rule.replaces)) is not None:
        text = _("“%(replaced)s” was replaced by “%(rule)s” meanwhile: change that one instead.")
        return text % {"replaced": rule.replaces, "rule": other}
    first = timezone.now() + LEAD
    if rule.valid_until is not None and rule.valid_until <= max(first, rule.valid_from or first):
        return _("It would end before it begins: please change until when it is valid.")
    return ""


def consequences(rule: CommissionRule) -> list[str]:
    """Say what will happen when a draft is published."""
    words = {"whose": wording.whose(rule), "trigger": rule.trigger}
    if rule.trigger:
        whom = _("It is for %(whose)s, and for “%(trigger)s” alone.") % words
    else:
        whom = _("It is for %(whose)s, and for any trigger.") % words
    soon = _("%(n)s seconds after you have confirmed") % {"n": LEAD.seconds}
    first = rule.valid_from
    if first is not None and first <= timezone.now() + LEAD:
        first = None
    if first is not None:
        begins = _("It holds from %(when)s on") % {"when": wording.moment(first)}
    else:
        begins = _("It begins to hold %(soon)s") % {"soon": soon}
    if rule.valid_until is not None:
        until = {"when": wording.moment(rule.valid_until)}
        begins += _(", and ends on %(when)s") % until
    said = [_("It pays %(pays)s.") % {"pays": wording.pays(rule)}, whom, f"{begins}."]
    replaced = rule.replaces
    if replaced is None:
        said.append(_("It replaces no other rule."))
    elif wording.state(replaced, timezone.now()) == "ended":
        said.append(_("It replaces “%(rule)s”, which has ended.") % {"rule": replaced})
    else:
        text = _("It replaces “%(rule)s”, which ends at that moment, and pays %(pays)s until then.")
        said.append(text % {"rule": replaced, "pays": wording.pays(replaced)})
    said.append(_("From then on it never changes: other terms are another rule."))
    return said


def lines(sentences: list[str]) -> Any:
    """Return sentences, each on a line of its own."""
    return format_html_join("", '<span class="aff-line">{}</span>', ([each] for each in sentences))
