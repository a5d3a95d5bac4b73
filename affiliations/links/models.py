"""Links, and the clicks that came through them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.translation import gettext_lazy as _

from .. import callbackurl, egress
from ..exceptions import InvalidCallbackURL, RefusedDestination
from ..fields import ExactCharField
from ..models import Callback, Conversion, Partner, Visitor
from ..money import DECIMAL_PLACES, Money
from . import landing, relay
from .conf import may_lead_to, settings
from .querysets import LinkQuerySet, TransactionQuerySet

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
MAX_ORDER = 200
MAX_IDENT = 64
MAX_NETWORK_ID = 255
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


class Transaction(models.Model):
    """One person's clicks through a link, and the purchase that came of them, if any did."""

    class State(models.TextChoices):
        OPEN = "open", _("open")
        FULFILLED = "fulfilled", _("fulfilled")
        COMPLETED = "completed", _("completed")
        REFUNDED = "refunded", _("refunded")

    link = models.ForeignKey(
        Link, models.PROTECT, verbose_name=_("link"), related_name="transactions"
    )
    path = ExactCharField(_("path"), max_length=64)
    item_id = ExactCharField(_("item"), max_length=MAX_ITEM)
    ident = ExactCharField(
        _("browser"),
        max_length=MAX_IDENT,
        blank=True,
        default="",
        help_text=_("The anonymous id in this browser’s cookie, while nobody was logged in."),
    )
    user = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("user"),
        related_name="affiliate_transactions",
        null=True,
        blank=True,
    )
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.OPEN)
    # Whose click through which link it is, while it is open: of these there is one only.
    open_key = ExactCharField(max_length=120, unique=True, null=True, editable=False)
    clicks = models.PositiveIntegerField(_("clicks"), default=1)
    created_on = models.DateTimeField(_("first click on"), default=timezone.now)
    clicked_on = models.DateTimeField(_("last click on"), default=timezone.now)
    fulfilled_on = models.DateTimeField(_("fulfilled on"), null=True, blank=True)
    completed_on = models.DateTimeField(_("completed on"), null=True, blank=True)
    refunded_on = models.DateTimeField(_("refunded on"), null=True, blank=True)
    network_id = ExactCharField(
        _("network’s transaction"),
        max_length=MAX_NETWORK_ID,
        blank=True,
        default="",
        help_text=_("The network’s own id of this click."),
    )
    query = models.JSONField(
        _("query"), default=dict, blank=True, help_text=_("What the last click’s address held.")
    )
    landing_page = models.CharField(
        _("landing page"), max_length=landing.MAX_LENGTH, blank=True, default=""
    )
    visitor = models.ForeignKey(
        Visitor,
        models.SET_NULL,
        verbose_name=_("visitor"),
        related_name="transactions",
        null=True,
        blank=True,
    )
    amount_minor = models.BigIntegerField(_("amount in minor units"), null=True, blank=True)
    currency = models.CharField(_("currency"), max_length=3, blank=True, default="")
    order_id = models.CharField(_("order"), max_length=MAX_ORDER, blank=True, default="")
    given = models.JSONField(
        _("given"),
        default=dict,
        blank=True,
        help_text=_("What whoever reported the purchase gave for the network besides."),
    )
    # Digests: each order of an item, and each key of a caller's, completes once. NULL where there
    # is none, of which there may be many.
    order_key = models.CharField(  # noqa: DJ001
        max_length=64, unique=True, null=True, editable=False
    )
    request_key = models.CharField(  # noqa: DJ001
        max_length=64, unique=True, null=True, editable=False
    )
    conversion = models.ForeignKey(
        Conversion,
        models.SET_NULL,
        verbose_name=_("conversion"),
        related_name="transactions",
        null=True,
        blank=True,
    )
    relay = models.ForeignKey(
        Callback,
        models.SET_NULL,
        verbose_name=_("relay"),
        related_name="relayed_transactions",
        null=True,
        blank=True,
        help_text=_("The call that tells the network of the purchase."),
    )
    adjustment = models.ForeignKey(
        Callback,
        models.SET_NULL,
        verbose_name=_("adjustment"),
        related_name="adjusted_transactions",
        null=True,
        blank=True,
        help_text=_("The call that takes it back after a refund."),
    )
    # What is to be mailed, until it was.
    alert_due = models.BooleanField(default=False, editable=False)

    objects = TransactionQuerySet.as_manager()

    class Meta:
        verbose_name = _("transaction")
        verbose_name_plural = _("transactions")
        indexes = [
            models.Index(fields=["ident", "state"], name="affiliations_trans_ident"),
            models.Index(
                fields=["user", "item_id", "state", "clicked_on"], name="affiliations_trans_user"
            ),
            models.Index(fields=["link", "created_on"], name="affiliations_trans_link"),
            models.Index(fields=["link", "completed_on"], name="affiliations_trans_sold"),
            models.Index(fields=["created_on"], name="affiliations_trans_when"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state="open", open_key__isnull=False)
                | (~models.Q(state="open") & models.Q(open_key=None)),
                name="affiliations_trans_open",
            ),
            models.CheckConstraint(
                condition=models.Q(amount_minor=None, currency="")
                | (models.Q(amount_minor__gt=0) & ~models.Q(currency="")),
                name="affiliations_trans_money",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=("completed", "refunded"), amount_minor__isnull=False)
                | models.Q(state__in=("open", "fulfilled"), amount_minor=None),
                name="affiliations_trans_paid",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.path} #{self.pk}"

    @property
    def money(self) -> Money | None:
        """What was paid, or None while nothing was."""
        return None if self.amount_minor is None else Money(self.amount_minor, self.currency)

    @property
    def is_fulfilled(self) -> bool:
        """Tell whether nothing more can come of it."""
        return self.state != self.State.OPEN


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
