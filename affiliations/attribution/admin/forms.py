"""What staff fill in about a report."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import dates, firing
from ...admin.lists import NOTHING, local
from ...models import Conversion
from ..conf import settings
from . import wording

__all__ = ["ReportForm"]

#: Conversions that a page looks at; a command looks at as many as there are.
MOST = 100_000
#: Of how many conversions, the latest, the triggers can be chosen beside those of the settings.
LATEST = 1000
MOST_DAYS = 3650
#: How far back the page looks at first, and by what.
USUAL = 30
MODELS = ("last", "linear", "markov")


class DayField(forms.DateField):
    """A day by the site's clock, which begins and ends at moments that there are."""

    def __init__(self, **options: Any) -> None:
        widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
        super().__init__(widget=widget, **options)

    def clean(self, value: Any) -> date | None:
        """Return the day; raises ValidationError for one that no clock will show."""
        day: date | None = super().clean(value)
        if day is not None and (begin_of(day) is None or begin_of(day, 1) is None):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return day


class ReportForm(forms.Form):
    """Of which conversions, by which models, and what is told apart."""

    since = DayField(label=gettext_lazy("From"))
    until = DayField(label=gettext_lazy("To"))
    by = forms.ChoiceField(
        label=gettext_lazy("By"),
        choices=[*wording.DIMENSIONS.items()],
        error_messages={"invalid_choice": gettext_lazy("Choose one of the list.")},
    )
    lookback = forms.IntegerField(
        label=gettext_lazy("Days looked back"),
        required=False,
        min_value=1,
        max_value=MOST_DAYS,
    )
    trigger = forms.ChoiceField(
        label=gettext_lazy("Trigger"),
        required=False,
        error_messages={"invalid_choice": gettext_lazy("There is no such trigger.")},
    )
    lead = forms.ChoiceField(
        label=gettext_lazy("Trigger of leads"),
        required=False,
        help_text=gettext_lazy("For the W shape only: a registration, say."),
        error_messages={"invalid_choice": gettext_lazy("There is no such trigger.")},
    )
    model = forms.MultipleChoiceField(
        label=gettext_lazy("Models, side by side"),
        choices=[(name, said) for name, (said, _sentence) in wording.MODELS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={
            "required": gettext_lazy("Choose at least one model."),
            "invalid_choice": gettext_lazy("Choose models of the list."),
        },
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = triggers()
        for field, empty in (("trigger", _("Any")), ("lead", NOTHING)):
            choice: Any = self.fields[field]
            choice.choices = [("", empty), *((name, name) for name in names)]
        usual = settings.ATTRIBUTION_LOOKBACK / timedelta(days=1)
        self.fields["lookback"].widget.attrs["placeholder"] = f"{usual:g}"

    def clean_model(self) -> list[str]:
        """Return each model once, in the order that they are listed in."""
        chosen = self.cleaned_data["model"]
        return [name for name in wording.MODELS if name in chosen]

    def clean(self) -> None:
        """Refuse a time that ends before it begins, and more than a page can look at."""
        super().clean()
        given = self.cleaned_data
        if "w_shaped" in given.get("model", ()) and not given.get("lead") and "lead" in given:
            self.add_error("lead", _("The W shape needs to know which trigger makes a lead."))
        since, until = given.get("since"), given.get("until")
        if since is None or until is None:
            return
        if since > until:
            self.add_error("until", _("It ends before it begins."))
        elif not self.errors and self.count > MOST:
            text = _(
                "There are more than %(most)s conversions from then on, too many for this page. "
                "Choose a later day, or use: manage.py attribution_report --since %(since)s"
            )
            words = {"most": f"{MOST:,}", "since": since.isoformat()}
            self.add_error("since", text % words)

    @cached_property
    def conversions(self) -> models.QuerySet[Conversion]:
        """The conversions that are asked about."""
        asked = self.question
        rows = Conversion.objects.filter(
            created_on__gte=asked["since"], created_on__lt=asked["until"], reversed_on=None
        )
        return rows.filter(trigger=asked["trigger"]) if asked["trigger"] else rows

    @cached_property
    def count(self) -> int:
        """How many of them there are, as far as a page looks."""
        return self.conversions.order_by()[: MOST + 1].count()

    @property
    def question(self) -> dict[str, Any]:
        """What each of the reports is asked."""
        given = self.cleaned_data
        back = given["lookback"]
        return {
            "since": begin_of(given["since"]),
            "until": begin_of(given["until"], 1),
            "by": given["by"],
            "lookback": None if back is None else timedelta(days=back),
            "trigger": given["trigger"],
        }

    @classmethod
    def usual(cls) -> dict[str, Any]:
        """Return what is asked unless somebody says otherwise."""
        today = local(timezone.now()).date()
        return {
            "since": (today - timedelta(days=USUAL - 1)).isoformat(),
            "until": today.isoformat(),
            "by": "partner",
            "model": [*MODELS],
        }


def begin_of(day: date, later: int = 0) -> datetime | None:
    """Return when a day begins, or one some days later; None where no clock will show it."""
    try:
        return dates.moment((day + timedelta(days=later)).isoformat())
    except OverflowError:
        return None


def triggers() -> list[str]:
    """Return the triggers of the settings, and those by which somebody converted of late."""
    latest = Conversion.objects.order_by("-created_on").values_list("trigger", flat=True)[:LATEST]
    return list(dict.fromkeys([*firing.subscribable(), *sorted(set(latest))]))
