"""Partners, and what each of them wants to be told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, router, transaction
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from .. import callbackurl, egress, signing
from ..conf import settings
from ..exceptions import InvalidCallbackURL, InvalidTransition, RefusedDestination
from ..querysets import PartnerQuerySet, SubscriptionQuerySet

UID_LENGTH = 8
UID_ATTEMPTS = 10
ROTATION = timedelta(hours=24)
MAX_EXPECTED = 200


class Method(models.TextChoices):
    """How a partner is told."""

    GET = "GET", "GET"
    POST = "POST", "POST"


def new_salt() -> str:
    """Return what makes a partner's secret its own: 128 bits from a cryptographic source."""
    return get_random_string(22)


@sensitive_variables()
def site_keys() -> list[str]:
    """Return the site's keys, the current one first, as `SECRET_KEY_FALLBACKS` orders them."""
    keys = [django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]
    # Django allows bytes as well, any bytes.
    return [key.decode("latin-1") if isinstance(key, bytes) else key for key in keys]


@sensitive_variables()
def current_fingerprint() -> str:
    """Return by which of the site's keys a secret made now is found again."""
    return signing.key_fingerprint(site_keys()[0])


class Partner(models.Model):
    """Somebody the site has an affiliate deal with; a network is a partner too."""

    uid = models.CharField(
        _("id in links"),
        max_length=UID_LENGTH,
        unique=True,
        editable=False,
        help_text=_("Identifies the partner in affiliate links. Made once, never changed."),
    )
    name = models.CharField(_("name"), max_length=250)
    active = models.BooleanField(
        _("active"),
        default=False,
        help_text=_(
            "Whether there is a deal at present. Without it links still lead to the site, "
            "but no visitor is counted and nothing is credited."
        ),
    )
    users = models.ManyToManyField(
        django_settings.AUTH_USER_MODEL,
        verbose_name=_("people"),
        related_name="affiliate_partners",
        blank=True,
        help_text=_("Accounts that may see this partner's own figures."),
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)
    changed_on = models.DateTimeField(_("changed on"), auto_now=True)
    # A secret is derived from the site's key and a salt, never stored: a copy of the database
    # alone forges no signature.
    secret_salt = models.CharField(max_length=22, default=new_salt, editable=False)
    secret_fingerprint = models.CharField(max_length=8, default=current_fingerprint, editable=False)
    previous_salt = models.CharField(max_length=22, blank=True, default="", editable=False)
    previous_fingerprint = models.CharField(max_length=8, blank=True, default="", editable=False)
    previous_until = models.DateTimeField(
        _("previous secret valid until"), null=True, blank=True, editable=False
    )

    objects = PartnerQuerySet.as_manager()
    _loaded_uid = ""

    class Meta:
        verbose_name = _("partner")
        verbose_name_plural = _("partners")
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with a uid of its own; raises InvalidTransition where the uid was changed."""
        if self._loaded_uid and self.uid != self._loaded_uid:
            raise InvalidTransition(
                f"uid: {self._loaded_uid} stands in the partner's links, it never changes"
            )
        if self.uid:
            super().save(*args, **kwargs)
        else:
            self._save_with_new_uid(*args, **kwargs)
        self._loaded_uid = self.uid

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Partner:
        """Remember the uid that the row came with; the arguments differ between Djangos."""
        partner = super().from_db(*args, **kwargs)
        partner._loaded_uid = partner.__dict__.get("uid", "")
        return partner

    def _save_with_new_uid(self, *args: Any, **kwargs: Any) -> None:
        using = kwargs.get("using") or router.db_for_write(Partner, instance=self)
        for attempt in range(UID_ATTEMPTS):
            self.uid = get_random_string(UID_LENGTH)
            try:
                with transaction.atomic(using=using):
                    super().save(*args, **kwargs)
            except IntegrityError:
                taken = Partner.objects.using(using).filter(uid=self.uid).exists()
                self.uid = ""
                if not taken or attempt == UID_ATTEMPTS - 1:
                    raise
            else:
                return

    def link(self, url: str) -> str:
        """Return `url` (absolute or not) as this partner publishes it, with its uid added."""
        parts = urlsplit(url)
        own = f"{settings.QUERY_STRING_KEY}={self.uid}"
        return urlunsplit(parts._replace(query=f"{parts.query}&{own}" if parts.query else own))

    @sensitive_variables()
    def signing_secrets(self, now: datetime | None = None) -> list[bytes]:
        """Return the secrets that sign for this partner at `now`, the current one first.

        Empty where the site's key that they were made with is neither `SECRET_KEY` nor one of
        `SECRET_KEY_FALLBACKS` any more: then a new secret has to be issued.
        """
        made = [(self.secret_salt, self.secret_fingerprint)]
        if self.previous_until and (now or timezone.now()) < self.previous_until:
            made.append((self.previous_salt, self.previous_fingerprint))
        keys = {signing.key_fingerprint(key): key for key in reversed(site_keys())}
        return [
            signing.derive_secret(keys[fingerprint], salt)
            for salt, fingerprint in made
            if fingerprint in keys
        ]

    @sensitive_variables()
    def rotate_secret(self) -> str:
        """Issue a new signing secret and return it, "whsec_…", the only time it is shown.

        The one before it goes on signing beside it for 24 hours.
        """
        with transaction.atomic(using=router.db_for_write(Partner, instance=self)):
            # Locked: of two rotations at once, each must put the other's secret beside its own.
            stored = Partner.objects.select_for_update().get(pk=self.pk)
            self.previous_salt = stored.secret_salt
            self.previous_fingerprint = stored.secret_fingerprint
            self.previous_until = timezone.now() + ROTATION
            self.secret_salt = new_salt()
            self.secret_fingerprint = current_fingerprint()
            self.save(
                update_fields=[
                    "previous_salt",
                    "previous_fingerprint",
                    "previous_until",
                    "secret_salt",
                    "secret_fingerprint",
                    "changed_on",
                ]
            )
        return signing.encode_secret(self.signing_secrets()[0])


def validate_callback_url(value: str) -> None:
    """Raise ValidationError where `value` cannot be called back."""
    try:
        callbackurl.validate(value, names_visitor=False)
    except InvalidCallbackURL as error:
        raise ValidationError(str(error), code=error.code) from error


class Subscription(models.Model):
    """A partner's wish to be told of a trigger."""

    _loaded: tuple[Any, Any] | None = None

    partner = models.ForeignKey(
        Partner, models.CASCADE, verbose_name=_("partner"), related_name="subscriptions"
    )
    trigger = models.CharField(
        _("trigger"), max_length=100, help_text=_("What has to happen for the partner to be told.")
    )
    callback_url = models.CharField(
        _("callback URL"),
        max_length=2000,
        blank=True,
        validators=[validate_callback_url],
        help_text=_(
            "The partner's address that is called each time. Must contain {visitor_id}; may also "
            "contain {partner_uid}, {trigger}, {reference}, {amount}, {currency}, {timestamp}, "
            "{click_id} and {sub1} to {sub5}. Leave it empty to count without telling anybody."
        ),
    )
    method = models.CharField(
        _("method"),
        max_length=4,
        choices=Method,
        default=Method.GET,
        help_text=_(
            "GET tells everything in the URL. POST tells it as JSON; the URL then needs no "
            "{visitor_id}."
        ),
    )
    expects = models.CharField(
        _("answer must contain"),
        max_length=MAX_EXPECTED,
        blank=True,
        default="",
        help_text=_(
            "Some networks answer “OK” even when they refuse a call, and say so in the answer’s "
            "text. Write what it contains only if the call was accepted, such as success=true; "
            "any other answer then counts as refused, and the call is not repeated."
        ),
    )
    off_since = models.DateTimeField(_("switched off since"), null=True, blank=True, editable=False)
    off_reason = models.CharField(
        _("why it is switched off"), max_length=200, blank=True, default="", editable=False
    )
    failures = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True, editable=False)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")
        constraints = [
            models.UniqueConstraint(
                fields=["partner", "trigger"],
                name="affiliations_subscription_once",
                violation_error_message=_("The partner is subscribed to this trigger already."),
            )
        ]

    def __str__(self) -> str:
        return self.trigger

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; raises InvalidCallbackURL, or RefusedDestination for a new address."""
        self._check_address()
        super().save(*args, **kwargs)
        self._loaded = self._address()

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Subscription:
        """Remember where the row's calls went; the arguments differ between Djangos."""
        subscription = super().from_db(*args, **kwargs)
        subscription._loaded = subscription._address()
        return subscription

    def _address(self) -> tuple[Any, Any]:
        # Not by attribute: to ask for a deferred field would fetch it.
        return self.__dict__.get("callback_url"), self.__dict__.get("method")

    def clean(self) -> None:
        """Raise ValidationError where the address cannot be called, or is none that may be."""
        try:
            self._check_address()
        except (InvalidCallbackURL, RefusedDestination) as error:
            raise ValidationError({"callback_url": str(error)}, code=error.code) from error

    def _check_address(self) -> None:
        if not self.callback_url:
            return
        callbackurl.validate(self.callback_url, names_visitor=self.method == Method.GET)
        # One that was let in stays where it is, whatever the site has since forbidden: its calls
        # are refused, and whoever changes something else in the row has no part in it.
        if self._address() != self._loaded:
            egress.check(callbackurl.render(self.callback_url, {}))
