"""Properties: sites that are tracked, and the events that they tell of."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.crypto import constant_time_compare, get_random_string
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from ...fields import ExactCharField
from ...models.keys import SECRET_LENGTH, digest_of
from ..conf import MAX_KEY

MAX_NAME = 200
MAX_ORIGINS = 100
PUBLIC_KEY_LENGTH = 20

ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")
_is_key = RegexValidator(r"^[A-Za-z0-9_-]+\Z", _("Only letters, digits, - and _ of ASCII."))


def make_public_key() -> str:
    """Return a new public key."""
    return get_random_string(PUBLIC_KEY_LENGTH)


def are_origins(value: Any) -> None:
    """Refuse what is no list of origins, each a scheme and a host as browsers send them."""
    if not isinstance(value, list) or len(value) > MAX_ORIGINS:
        raise ValidationError(
            _("Must be a list of at most %(most)s origins."), params={"most": MAX_ORIGINS}
        )
    for each in value:
        if not isinstance(each, str) or len(each) > MAX_NAME or ORIGIN.fullmatch(each) is None:
            raise ValidationError(
                _("%(origin)s is no origin, such as https://shop.example"),
                params={"origin": repr(each)[:80]},
            )


class PropertyManager(models.Manager["Property"]):
    """Makes properties.

    No queryset has its method: a manager would hand it on by a frame of its own, whose variables, a
    secret among them, error reports show.
    """

    @sensitive_variables()
    def issue(self, **fields: Any) -> tuple[Property, str]:
        """Create a property; return it with its secret, which nobody can read again later."""
        made = Property(**fields)
        secret = made.renew_secret()
        made.save(force_insert=True)
        return made, secret


class Property(models.Model):
    """A site that is tracked: browsers write by its public key, and its secret is for reading."""

    name = models.CharField(_("name"), max_length=MAX_NAME)
    public_key = ExactCharField(
        _("public key"),
        max_length=MAX_KEY,
        unique=True,
        default=make_public_key,
        validators=[_is_key],
        help_text=_("Stands in pages, for everybody to see."),
    )
    digest = models.CharField(max_length=64, editable=False)
    origins = models.JSONField(
        _("origins"),
        default=list,
        blank=True,
        validators=[are_origins],
        help_text=_("Other sites whose pages may write here, such as https://shop.example"),
    )
    keep_days = models.PositiveIntegerField(
        _("days to keep hits"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("For ever, if empty."),
    )
    active = models.BooleanField(_("active"), default=True)
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    objects = PropertyManager()

    class Meta:
        verbose_name = _("property")
        verbose_name_plural = _("properties")

    def __str__(self) -> str:
        return str(self.name)

    @sensitive_variables()
    def renew_secret(self) -> str:
        """Give it another secret, and return that; whoever calls this saves the row.

        Only a digest is kept, and the one before is good for nothing any more.
        """
        secret = get_random_string(SECRET_LENGTH)
        self.digest = digest_of(secret)
        return secret

    @sensitive_variables()
    def is_secret(self, secret: str) -> bool:
        """Tell, in constant time, whether this is its secret."""
        return constant_time_compare(self.digest, digest_of(secret))


class EventType(models.Model):
    """A kind of event that a property tells of."""

    property = models.ForeignKey(
        Property,
        models.CASCADE,
        verbose_name=_("property"),
        related_name="event_types",
        db_index=False,
    )
    key = models.CharField(_("key"), max_length=MAX_KEY, validators=[_is_key])
    name = models.CharField(_("name"), max_length=MAX_NAME)
    public_key = ExactCharField(
        _("public key"),
        max_length=MAX_KEY,
        default=make_public_key,
        validators=[_is_key],
        help_text=_("By which browsers and programs tell of it."),
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("event type")
        verbose_name_plural = _("event types")
        constraints = [
            models.UniqueConstraint(
                fields=["property", "key"], name="affiliations_event_type_key_once"
            ),
            models.UniqueConstraint(
                fields=["property", "public_key"], name="affiliations_event_type_once"
            ),
        ]

    def __str__(self) -> str:
        return str(self.name)
