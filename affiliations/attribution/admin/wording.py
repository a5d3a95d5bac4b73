"""Say in a sentence each what a model does, and what may be told apart."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

__all__ = ["DIMENSIONS", "MODELS"]

#: Each model's name, and what it does.
MODELS: dict[str, tuple[Any, Any]] = {
    "last": (_("Last touch"), _("Whoever brought somebody last gets everything.")),
    "last_non_direct": (
        _("Last touch, not direct"),
        _("Whoever sent somebody last gets everything; a direct visit only where nobody did."),
    ),
    "first": (_("First touch"), _("Whoever brought somebody first gets everything.")),
    "linear": (_("Linear"), _("Everybody on the way gets the same.")),
    "position_based": (
        _("Position"),
        _("The first and the last get most, 40 % each as a rule; those between share the rest."),
    ),
    "time_decay": (
        _("Time decay"),
        _("The closer to the end the more: each half-life before it, a week as a rule, halves it."),
    ),
    "w_shaped": (
        _("W shape"),
        _("30 % each to the first, to the one before the lead, and to the last; 10 % to the rest."),
    ),
    "markov": (
        _("Markov chain"),
        _("By how many conversions would be lost without each, going by what everybody did."),
    ),
    "shapley": (
        _("Shapley value"),
        _("By what each adds, on average, to every possible company of the others."),
    ),
}

DIMENSIONS: dict[str, Any] = {
    "partner": _("Partner"),
    "link": _("Link"),
    "channel": _("Channel"),
    "campaign": _("Campaign"),
    "source": _("Source"),
    "medium": _("Medium"),
    "sub1": _("Sub id 1"),
    "sub2": _("Sub id 2"),
    "sub3": _("Sub id 3"),
    "sub4": _("Sub id 4"),
    "sub5": _("Sub id 5"),
}
