"""Say in everyday words what a program promises, and how far somebody is."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _

from ...admin.amounts import amount
from ...admin.lists import marked
from ...rewards.admin.wording import moment
from ..models import Member, Operation, Program


def promise(program: Program) -> str:
    """Say what a program promises to both sides."""
    currency = program.currency
    said = []
    if program.credit_minor:
        said.append(_("%(sum)s at sign-up") % {"sum": amount(program.credit_minor, currency)})
    target = program.target_minor
    reward = target if program.reward_minor is None else program.reward_minor
    if reward and target:
        text = _("%(sum)s to whoever brought them, once they have paid %(target)s")
        said.append(text % {"sum": amount(reward, currency), "target": amount(target, currency)})
    elif reward:
        said.append(_("%(sum)s to whoever brought them") % {"sum": amount(reward, currency)})
    return "; ".join(said) or _("nothing")


def badge(program: Program) -> Any:
    """Return a program's state as a coloured word, and below it when it changes by itself."""
    now = timezone.now()
    if not program.active:
        return marked("dead", _("not active"))
    if program.valid_until is not None and program.valid_until <= now:
        return marked("dead", _("ended"))
    if program.valid_from is not None and program.valid_from > now:
        when = _("on %(when)s") % {"when": moment(program.valid_from)}
        return _with(marked("pending", _("begins later")), when)
    shown = marked("delivered", _("active"))
    if program.valid_until is None:
        return shown
    return _with(shown, _("until %(when)s") % {"when": moment(program.valid_until)})


def _with(shown: Any, when: str) -> Any:
    return format_html('{}<span class="aff-line">{}</span>', shown, when)


def percent(member: Member) -> int:
    """Return how far a member is on the way to the target, in whole percents."""
    if member.paid_minor >= member.target_minor:
        return 100
    return 100 * member.paid_minor // member.target_minor


def far(member: Member) -> str:
    """Say what a member has paid, and what is left."""
    words = {
        "paid": amount(member.paid_minor, member.currency),
        "target": amount(member.target_minor, member.currency),
        "left": amount(member.target_minor - member.paid_minor, member.currency),
    }
    if member.paid_minor >= member.target_minor:
        return _("%(paid)s: the target of %(target)s is reached.") % words
    return _("%(paid)s of %(target)s: %(left)s to go.") % words


def stake(member: Member) -> str:
    """Say what whoever brought a member has of it."""
    reward = amount(member.reward_minor, member.currency)
    if member.indicator_id is None:
        return _("They came by themselves: nobody is credited for them.")
    kind = Operation.Kind.POTENTIAL_CREDIT
    promised = member.operations_about.filter(member=member.indicator_id, kind=kind)
    if not promised.exists():
        return _("Nothing was promised for them: a limit was reached, or they were imported.")
    if member.acquired_on is None:
        return _("Whoever brought them is credited %(reward)s then.") % {"reward": reward}
    words = {"reward": reward, "when": moment(member.acquired_on)}
    return _("Whoever brought them was credited %(reward)s on %(when)s.") % words


def standing(member: Member) -> Any:
    """Return as a coloured word how far a member is."""
    if member.paid_minor >= member.target_minor:
        return marked("delivered", _("reached"))
    return marked("pending", _("%(n)s %%") % {"n": percent(member)})
