"""Who is paid what for a conversion."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...exceptions import InvalidTransition
from ...models import Partner
from ...money import DECIMAL_PLACES, number
from .. import terms
from ..querysets import RuleQuerySet

#: Of a rule's own fields those that say what it pays to whom: nobody changes them once it is
#: published.
AGREED = (
    "published_on",
    "replaces_id",
    "lineage",
    "partner_id",
    "group_id",
    "trigger",
    "percent",
    "flat_minor",
    "currency",
    "tiers",
    "tiers_by",
    "period",
    "minimum_minor",
    "cap_minor",
    "period_cap_minor",
    "times",
    "months",
    "valid_from",
    "priority",
)
#: Those that hold sums, of the rule's one currency, in minor units.
SUMS = ("flat_minor", "minimum_minor", "cap_minor", "period_cap_minor")
#: Those that hold numbers, none of which may be a float: it would be cut, or not be what it seems.
NUMBERS = ("percent", *SUMS, "times", "months", "priority")
MAX_TIERS = 20
#: How long before a rule begins or ends to hold that has to be written down. A conversion that is
#: recorded meanwhile has its time before it reads the rules; whatever it is, it then finds in them
#: what will ever after be said to have held at that time.
LEAD = timedelta(seconds=10)


class PartnerGroup(models.Model):
    """Partners with the same terms."""

    name = models.CharField(_("name"), max_length=250, unique=True)
    partners = models.ManyToManyField(
        Partner, verbose_name=_("partners"), related_name="commission_groups", blank=True
    )

    class Meta:
        verbose_name = _("partner group")
        verbose_name_plural = _("partner groups")
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return self.name


class CommissionRule(models.Model):
    """What a partner, a group of them, or everybody earns by a trigger, or by any.

    A draft until it is published. From then on only its end can be set: other terms are another
    rule, which replaces it, so that what it has paid can be told for ever after.
    """

    class Period(models.TextChoices):
        MONTH = "month", _("calendar month")
        QUARTER = "quarter", _("quarter")
        YEAR = "year", _("year")
        EVER = "ever", _("all time")

    class TiersBy(models.TextChoices):
        COUNT = "count", _("number of conversions")
        AMOUNT = "amount", _("amount of conversions")

    name = models.CharField(_("name"), max_length=250)
    partner = models.ForeignKey(
        Partner,
        models.PROTECT,
        verbose_name=_("partner"),
        related_name="commission_rules",
        null=True,
        blank=True,
        help_text=_("For this one alone. With neither partner nor group it is for everybody."),
    )
    group = models.ForeignKey(
        PartnerGroup,
        models.PROTECT,
        verbose_name=_("group"),
        related_name="commission_rules",
        null=True,
        blank=True,
    )
    trigger = models.CharField(
        _("trigger"),
        max_length=100,
        blank=True,
        default="",
        help_text=_("What has to happen for it to be paid. Empty: any trigger."),
    )
    percent = models.DecimalField(
        _("percent of the amount"),
        max_digits=7,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(terms.MAX_PERCENT)],
    )
    flat_minor = models.BigIntegerField(
        _("flat sum, in minor units"), null=True, blank=True, validators=[MinValueValidator(0)]
    )
    currency = models.CharField(
        _("currency"),
        max_length=3,
        blank=True,
        default="",
        help_text=_("Of every sum in the rule. A percentage without one is of any currency."),
    )
    tiers = models.JSONField(_("tiers"), default=list, blank=True)
    tiers_by = models.CharField(_("tiers by"), max_length=6, choices=TiersBy, default=TiersBy.COUNT)
    period = models.CharField(
        _("period"),
        max_length=7,
        choices=Period,
        default=Period.MONTH,
        help_text=_("How far the tiers and the cap per period reach back, by UTC."),
    )
    minimum_minor = models.BigIntegerField(
        _("minimum amount, in minor units"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=_("The rule is not for conversions that are worth less."),
    )
    cap_minor = models.BigIntegerField(
        _("cap per conversion, in minor units"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
    )
    period_cap_minor = models.BigIntegerField(
        _("cap per period, in minor units"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=_("For each partner."),
    )
    times = models.PositiveIntegerField(
        _("times"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Only for the first so many conversions of the same person."),
    )
    months = models.PositiveIntegerField(
        _("months"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1200)],
        help_text=_("Only until so many months after the person’s first conversion."),
    )
    priority = models.IntegerField(
        _("priority"),
        default=0,
        help_text=_("Of several rules that are equally specific, the one with the highest holds."),
    )
    valid_from = models.DateTimeField(_("valid from"), null=True, blank=True)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)
    published_on = models.DateTimeField(_("published on"), null=True, blank=True, editable=False)
    replaces = models.ForeignKey(
        "self",
        models.PROTECT,
        verbose_name=_("replaces"),
        related_name="replaced_by",
        null=True,
        blank=True,
        editable=False,
    )
    # The same through a chain of replacements: what tiers, caps and times count goes on.
    lineage = models.UUIDField(default=uuid.uuid4, editable=False)

    objects = RuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("commission rule")
        verbose_name_plural = _("commission rules")
        indexes = [
            models.Index(fields=["lineage"], name="affiliations_rule_lineage"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(partner=None) | models.Q(group=None),
                name="affiliations_rule_whose",
            ),
            models.CheckConstraint(
                condition=models.Q(percent=None, flat_minor__gte=0) & ~models.Q(currency="")
                | models.Q(percent__gte=0, percent__lte=terms.MAX_PERCENT, flat_minor=None),
                name="affiliations_rule_pays",
            ),
            models.CheckConstraint(
                condition=~models.Q(currency="")
                | models.Q(minimum_minor=None, cap_minor=None, period_cap_minor=None),
                name="affiliations_rule_currency",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; raises ValidationError, or InvalidTransition where the rule is published.

        Of one that is published its name can be changed, and its end, as long as both the old and
        the new one are ahead.
        """
        # That what it refers to exists is the database's to say.
        self.clean_fields(exclude={"partner", "group", "replaces"})
        self.clean()
        if self._state.adding:
            super().save(*args, **kwargs)
            return
        using = kwargs.get("using") or router.db_for_write(CommissionRule, instance=self)
        with transaction.atomic(using=using):
            # As it is stored, since this may have been read when it was a draft.
            rows = CommissionRule.objects.using(using).select_for_update()
            stored = rows.filter(pk=self.pk).first()
            if stored is not None and stored.is_published:
                self._keep_to(stored)
            super().save(*args, **kwargs)

    def _keep_to(self, stored: CommissionRule) -> None:
        """Raise InvalidTransition where something differs from what was published."""
        for name in AGREED:
            if self.__dict__.get(name, getattr(stored, name)) != getattr(stored, name):
                raise InvalidTransition(f"{name}: the rule {stored} is published, it never changes")
        ends = (stored.valid_until, self.valid_until)
        if ends[0] != ends[1] and not all(map(_is_ahead, ends)):
            raise InvalidTransition(
                f"valid_until: the rule {stored} can only end, or not, later on"
            )

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Delete a draft; raises InvalidTransition for any other, that conversions may name."""
        using = kwargs.get("using") or router.db_for_write(CommissionRule, instance=self)
        with transaction.atomic(using=using):
            rows = CommissionRule.objects.using(using).select_for_update()
            stored = rows.filter(pk=self.pk).first()
            if stored is not None and stored.is_published:
                raise InvalidTransition(f"rule: {self} is published, let it end instead")
            return super().delete(*args, **kwargs)

    def clean_fields(self, exclude: Any = None) -> None:
        """Raise ValidationError, naming the fields, where a value cannot be what it is for."""
        floats = [name for name in NUMBERS if isinstance(getattr(self, name), float | bool)]
        if floats:
            text = _("Must be an exact number.")
            raise ValidationError({name: [text] for name in floats}, code="invalid")
        super().clean_fields(exclude=exclude)

    def clean(self) -> None:
        """Raise ValidationError, naming the fields, where nobody could be paid by the rule."""
        errors: dict[str, Any] = {}
        if self.partner_id is not None and self.group_id is not None:
            errors["group"] = _("A rule is for a partner or for a group, not for both.")
        if (self.percent is None) == (self.flat_minor is None):
            errors["percent"] = _("A rule pays either a percentage or a flat sum.")
        if self.currency and self.currency not in DECIMAL_PLACES:
            errors["currency"] = _("Must be an ISO 4217 code in capitals, such as EUR.")
        sums = (getattr(self, name) for name in SUMS)
        by_amount = bool(self.tiers) and self.tiers_by == self.TiersBy.AMOUNT
        if not self.currency and (by_amount or any(each is not None for each in sums)):
            errors["currency"] = _("There are sums in the rule: in which currency?")
        if problem := self._problem_of_tiers():
            errors["tiers"] = problem
        if self.valid_from and self.valid_until and self.valid_from >= self.valid_until:
            errors["valid_until"] = _("Must be later than the beginning.")
        if errors:
            raise ValidationError({name: [text] for name, text in errors.items()}, code="invalid")

    def _problem_of_tiers(self) -> Any:
        tiers = self.tiers
        if not isinstance(tiers, list) or len(tiers) > MAX_TIERS:
            return _("Must be at most %(most)s pairs of a start and a rate.") % {"most": MAX_TIERS}
        try:
            found = [(_whole(start), self._rate(rate)) for start, rate in tiers]
        except (TypeError, ValueError):
            return _("Each must be a start, a whole number above zero, and a rate.")
        starts = [start for start, _rate in found]
        if any(later <= earlier for earlier, later in pairwise([0, *starts])):
            return _("The starts must be above zero and grow from tier to tier.")
        return ""

    def _rate(self, value: Any) -> Decimal | int:
        """Return a tier's rate, of the same kind as the rule's own; raises ValueError."""
        if self.flat_minor is not None:
            return _whole(value)
        found = number(value)
        if not 0 <= found <= terms.MAX_PERCENT:
            raise ValueError("out of range")
        return found

    @property
    def is_published(self) -> bool:
        """Tell whether it pays, and so never changes any more."""
        return self.published_on is not None

    def holds_at(self, moment: datetime) -> bool:
        """Tell whether it was published, and valid, at a moment; see `RuleQuerySet.at`."""
        began = self.published_on is not None and self.published_on <= moment
        started = self.valid_from is None or self.valid_from <= moment
        return began and started and (self.valid_until is None or self.valid_until > moment)

    def is_for(self, partner_id: int, trigger: str) -> bool:
        """Tell whether it concerns a partner's part in what happened; not of which groups it is."""
        return self.partner_id in (None, partner_id) and self.trigger in ("", trigger)

    @property
    def rank(self) -> tuple[Any, ...]:
        """How specific it is: of the rules that fit, the one with the highest rank holds."""
        whose = 2 if self.partner_id is not None else 1 if self.group_id is not None else 0
        return whose, bool(self.trigger), self.priority, self.published_on, self.pk

    @property
    def terms(self) -> terms.Terms:
        """What it pays, without to whom."""
        rate = self.percent if self.flat_minor is None else self.flat_minor
        return terms.Terms(
            rate=Decimal(0) if rate is None else rate,
            currency=self.currency,
            tiers=tuple(terms.Tier(start, self._rate(each)) for start, each in self.tiers),
            by_amount=self.tiers_by == self.TiersBy.AMOUNT,
            period=self.period,
            cap=self.cap_minor,
            period_cap=self.period_cap_minor,
            times=self.times,
            months=self.months,
        )


def _is_ahead(end: datetime | None) -> bool:
    return end is None or end >= timezone.now() + LEAD


def _whole(value: Any) -> int:
    """Return a number of minor units or conversions; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("no whole number")
    return value
