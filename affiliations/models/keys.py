"""API keys: shown once, kept as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta

from django.db import models
from django.utils import timezone
from django.utils.crypto import constant_time_compare, get_random_string
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from ..exceptions import InvalidApiKey
from .partners import Partner

PREFIX_LENGTH = 8
SECRET_LENGTH = 43  # of 62 characters: 256 bits
USED_EVERY = timedelta(minutes=1)


@sensitive_variables()
def digest_of(token: str) -> str:
    """Return what is kept of a token.

    A plain SHA-256: against 256 random bits a slow hash gains nothing (OWASP ASVS 5.0, 6.5.2).
    """
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class ApiKeyManager(models.Manager["ApiKey"]):
    """Issues API keys, and lets in who has one.

    No queryset has these methods: a manager would hand them on by a frame of its own, whose
    arguments, a token among them, error reports show.
    """

    @sensitive_variables()
    def issue(
        self, *, name: str, scopes: Iterable[str], partner: Partner | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key; return it with its token, which nobody can read again later."""
        prefix = get_random_string(PREFIX_LENGTH)
        token = f"aff_{prefix}.{get_random_string(SECRET_LENGTH)}"
        key = self.create(
            name=name,
            scopes=sorted(scopes),
            partner=partner,
            prefix=prefix,
            digest=digest_of(token),
        )
        return key, token

    @sensitive_variables()
    def authenticate(self, token: str, *, scope: str) -> ApiKey:
        """Return the key of `token`; raises InvalidApiKey where it may not do `scope`.

        The error is the same whether the key is unknown, revoked or lacks the scope, so that
        nothing is learnt by trying.
        """
        prefix = token.removeprefix("aff_").partition(".")[0]
        key = None
        if prefix.isascii() and prefix.isalnum() and len(prefix) == PREFIX_LENGTH:
            key = self.filter(prefix=prefix).first()
        matches = constant_time_compare(key.digest if key else "", digest_of(token))
        if key is None or not matches or key.revoked_on is not None or scope not in key.scopes:
            raise InvalidApiKey("the API key is not valid for this")
        key.touch()
        return key


class ApiKey(models.Model):
    """Lets a program in, for what its scopes name."""

    name = models.CharField(_("name"), max_length=100, help_text=_("Who or what uses it."))
    partner = models.ForeignKey(
        Partner,
        models.CASCADE,
        verbose_name=_("partner"),
        related_name="api_keys",
        null=True,
        blank=True,
        help_text=_("Set to let the key see this partner's data only."),
    )
    prefix = models.CharField(
        _("begins with"), max_length=PREFIX_LENGTH, unique=True, editable=False
    )
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(
        _("scopes"), default=list, blank=True, help_text=_("What the key may do, one word each.")
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)
    last_used_on = models.DateTimeField(_("last used on"), null=True, blank=True, editable=False)
    revoked_on = models.DateTimeField(_("revoked on"), null=True, blank=True, editable=False)

    objects = ApiKeyManager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")

    def __str__(self) -> str:
        return f"{self.name} (aff_{self.prefix}…)"

    def touch(self) -> None:
        """Note that the key was used, at most once a minute: a write a call would be dear."""
        now = timezone.now()
        if self.last_used_on is None or now - self.last_used_on >= USED_EVERY:
            ApiKey.objects.filter(pk=self.pk).update(last_used_on=now)
            self.last_used_on = now

    def revoke(self) -> bool:
        """End the key for good, and tell whether it was this call that did."""
        now = timezone.now()
        if ApiKey.objects.filter(pk=self.pk, revoked_on=None).update(revoked_on=now):
            self.revoked_on = now
            return True
        return False
