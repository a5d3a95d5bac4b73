"""Links, and the landing pages that they lead to."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.translation import gettext_lazy as _

from ... import callbackurl, egress
from ...exceptions import InvalidCallbackURL, RefusedDestination
from ...fields import ExactCharField
from ...models import Partner
from ...money import DECIMAL_PLACES, Money
from .. import landing, relay
from ..conf import may_lead_to, settings
from ..querysets import LinkQuerySet

#: Letters and digits without 0, O, I and l, which are read as one another.
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
#: 128 million million paths: of a million links a stranger's guess hits one in 10^8.
PATH_LENGTH = 8
PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,63}")
#: What the API's own addresses are called.
RESERVED = frozenset(
    (
        "acquire",
        "complete",
        "delete",
        "docs",
        "fulfill",
        "generate",
        "list",
        "openapi",
        "refund",
        "validate-item-id",
    )
)
MAX_ITEM = 200
MAX_ADDS = 1000
MAX_PASSES = 500
MAX_WEIGHT = 1000


def new_path() -> str:
    """Return a path that nobody guesses."""
    return get_random_string(PATH_LENGTH, BASE58)


def default_currency() -> str:
    """Return the site's own currency."""
    return str(settings.LINKS_CURRENCY)


class Link(models.Model):
    """A short address that leads to a landing page, and tells whoever bought there from others."""

    path = ExactCharField(
        _("path"),
        max_length=64,
        unique=True,
        default=new_path,
        help_text=_("What follows the router’s address. Made up unless you choose one."),
    )
    item_id = ExactCharField(
        _("item"), max_length=MAX_ITEM, help_text=_("The site’s own id of what is sold there.")
    )
    landing_page = models.CharField(
        _("landing page"),
        max_length=landing.MAX_LENGTH,
        help_text=_("The whole address of the page that whoever follows the link gets to see."),
    )
    weight = models.PositiveSmallIntegerField(
        _("weight"),
        default=1,
        validators=[MinValueValidator(1)],
        help_text=_("Of this landing page, where there are others: 3 beside 1 gets three in four."),
    )
    callback_url = models.CharField(
        _("callback URL"),
        max_length=callbackurl.MAX_LENGTH,
        blank=True,
        default="",
        help_text=_(
            "The network’s address that is called when the item was bought, such as "
            "https://example.go2cloud.org/aff_lsr?transaction_id={transaction_id}&amount={amount}. "
            "Leave it empty to tell nobody."
        ),
    )
    expects = models.CharField(
        _("answer must contain"),
        max_length=200,
        blank=True,
        default="success=true",
        help_text=_("What the network’s answer holds only if it accepts the purchase."),
    )
    floor_minor = models.BigIntegerField(
        _("floor price in minor units"),
        default=0,
        validators=[MinValueValidator(0)],
        help_text=_("A purchase has to exceed it to be paid out. Cents, for euros."),
    )
    currency = models.CharField(_("currency"), max_length=3, default=default_currency)
    partner = models.ForeignKey(
        Partner,
        models.PROTECT,
        verbose_name=_("partner"),
        related_name="links",
        null=True,
        blank=True,
        help_text=_(
            "Whose link it is; a network is a partner too. Without one nobody is credited, but the "
            "callback URL is called all the same."
        ),
    )
    active = models.BooleanField(
        _("active"),
        default=True,
        help_text=_("Whether clicks count. Without it the link still leads to its landing page."),
    )
    valid_from = models.DateTimeField(_("valid from"), null=True, blank=True)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    passes = models.CharField(
        _("passes on"),
        max_length=MAX_PASSES,
        blank=True,
        default=landing.EVERYTHING,
        help_text=_(
            "Which of a click’s parameters the landing page gets: * stands for all but the "
            "network’s own; or names, parted by blanks; or nothing."
        ),
    )
    adds = models.CharField(
        _("adds"),
        max_length=MAX_ADDS,
        blank=True,
        default="",
        help_text=_("Parameters that the landing page gets besides, such as utm_source=anna."),
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)
    # A row that stays: its transactions need it, and its path is never given out again.
    deleted_on = models.DateTimeField(_("deleted on"), null=True, blank=True, editable=False)

    objects = LinkQuerySet.as_manager()
    _loaded_callback: str | None = None
    _loaded_landing_page: str | None = None

    class Meta:
        verbose_name = _("link")
        verbose_name_plural = _("links")
        indexes = [
            models.Index(fields=["partner", "created_on"], name="affiliations_link_whose"),
            models.Index(fields=["item_id"], name="affiliations_link_item"),
            # For paths that people choose: a link has each only once, whatever the case.
            models.Index(Lower("path"), name="affiliations_link_lower"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(floor_minor__gte=0), name="affiliations_link_floor"
            ),
            models.CheckConstraint(
                condition=models.Q(weight__gte=1), name="affiliations_link_weight"
            ),
        ]

    def __str__(self) -> str:
        return str(self.path)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save in normal form; raises ValidationError where the link cannot be as it is."""
        self.clean()
        super().save(*args, **kwargs)
        self._loaded_callback = self.callback_url
        self._loaded_landing_page = self.landing_page

    @classmethod
    def check(cls, **kwargs: Any) -> list[Any]:
        """Check as usual; that MariaDB looks through all links for a chosen path is meant."""
        return without_missing_indexes(super().check(**kwargs))

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Link:
        """Remember where the row led and called; the arguments differ between Djangos."""
        link = super().from_db(*args, **kwargs)
        link._loaded_callback = link.__dict__.get("callback_url")
        link._loaded_landing_page = link.__dict__.get("landing_page")
        return link

    def clean(self) -> None:
        """Bring every field into normal form; raises ValidationError, naming the fields."""
        errors: dict[str, str] = {}
        self.item_id = str(self.item_id).strip()
        if problem := unfit(self.item_id):
            errors["item_id"] = problem
        if not PATH.fullmatch(self.path):
            errors["path"] = str(
                _("Must be 3 to 64 letters, digits, - and _, the first of them neither - nor _.")
            )
        elif self.path.lower() in RESERVED:
            errors["path"] = str(_("This name is taken by the API."))
        try:
            self.landing_page = to_land_on(self.landing_page, self._loaded_landing_page)
        except ValueError as error:
            errors["landing_page"] = str(error)
        if problem := self._callback_problem():
            errors["callback_url"] = problem
        if self.currency not in DECIMAL_PLACES:
            errors["currency"] = str(_("Must be an ISO 4217 code in capitals, such as EUR."))
        if self.valid_from and self.valid_until and self.valid_from >= self.valid_until:
            errors["valid_until"] = str(_("Must be later than the beginning."))
        self.passes = " ".join(re.split(r"[\s,]+", self.passes.strip()))
        for name in ("passes", "expects"):
            if unprintable(getattr(self, name)):
                errors[name] = str(_("Must not contain control characters."))
        self.adds = self.adds.strip().removeprefix("?")
        if unprintable(self.adds) or (self.adds and not parse_qsl(self.adds)):
            errors["adds"] = str(_("Must be parameters, such as utm_source=anna&utm_medium=blog."))
        if errors:
            raise ValidationError({name: [text] for name, text in errors.items()}, code="invalid")

    def _callback_problem(self) -> str:
        if not self.callback_url:
            return ""
        try:
            callbackurl.validate(
                self.callback_url, names_visitor=False, placeholders=relay.PLACEHOLDERS
            )
            # One that was let in stays, whatever the site has since forbidden: its calls are
            # refused, and whoever changes something else in the row has no part in it.
            if self.callback_url != self._loaded_callback:
                egress.check(callbackurl.render(self.callback_url, {}, relay.PLACEHOLDERS))
        except (InvalidCallbackURL, RefusedDestination) as error:
            return str(error)
        return ""

    @property
    def floor(self) -> Money:
        """What a purchase has to exceed to be paid out."""
        return Money(self.floor_minor, self.currency)

    @property
    def names_passed(self) -> list[str]:
        """The names of a click's parameters that the landing page gets."""
        return self.passes.split()


class LandingPage(models.Model):
    """Another landing page of a link, that some browsers see in the place of its own."""

    link = models.ForeignKey(
        Link, models.CASCADE, verbose_name=_("link"), related_name="alternatives"
    )
    url = models.CharField(_("landing page"), max_length=landing.MAX_LENGTH)
    weight = models.PositiveSmallIntegerField(
        _("weight"), default=1, validators=[MinValueValidator(1)]
    )

    _loaded_url: str | None = None

    class Meta:
        verbose_name = _("other landing page")
        verbose_name_plural = _("other landing pages")
        ordering = ("pk",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(weight__gte=1), name="affiliations_landing_weight"
            )
        ]

    def __str__(self) -> str:
        return self.url

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save in normal form; raises ValidationError where nobody could be led there."""
        self.clean()
        super().save(*args, **kwargs)
        self._loaded_url = self.url

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> LandingPage:
        """Remember where the row led; the arguments differ between Djangos."""
        page = super().from_db(*args, **kwargs)
        page._loaded_url = page.__dict__.get("url")
        return page

    def clean(self) -> None:
        """Bring the address into normal form; raises ValidationError."""
        try:
            self.url = to_land_on(self.url, self._loaded_url)
        except ValueError as error:
            raise ValidationError({"url": str(error)}, code="invalid") from error


def without_missing_indexes(found: list[Any]) -> list[Any]:
    """Leave out of a model's checks that the database has no index by a condition or a term."""
    return [each for each in found if each.id not in ("models.W037", "models.W043")]


def to_land_on(url: str, loaded: str | None) -> str:
    """Return an address to land on in normal form; raises ValueError where it may not be one.

    One that was let in, and so `loaded`, stays, whatever the site has since forbidden.
    """
    found = landing.normal(url)
    if found != loaded and not may_lead_to(landing.host(found)):
        raise ValueError(str(_("Its host is not one of AFFILIATE_LINKS_LANDING_HOSTS.")))
    return found


def unprintable(text: str) -> bool:
    """Tell whether a text holds what no database, log or address should: controls, surrogates."""
    return not text.isprintable() or any("\ud800" <= each <= "\udfff" for each in text)


def unfit(item_id: str) -> str:
    """Return why a text cannot be an item's id, "" where it can."""
    if not item_id:
        return str(_("Must not be empty."))
    if len(item_id) > MAX_ITEM:
        return str(_("Must be at most %(most)s characters.") % {"most": MAX_ITEM})
    return str(_("Must not contain control characters.")) if unprintable(item_id) else ""
