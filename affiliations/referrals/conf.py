"""Hold the settings of the referrals: name, default, rule and check id, one line each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..callbackurl import TOKEN, validate
from ..conf import Group, Setting, a_currency, a_path_or_none, a_rate, a_token
from ..exceptions import InvalidCallbackURL

#: What may stand in the billing system's address, besides its token.
USER_HASH = "user_hash"
PLACEHOLDERS = (USER_HASH, TOKEN)
#: How the predecessor's address has the user's hash.
PREDECESSORS = "%s"


def template(url: str) -> str:
    """Return the billing system's address with its placeholders as ours are."""
    return url.replace(PREDECESSORS, f"{{{USER_HASH}}}")


def a_billing_url(value: Any) -> str:
    """Accept an address with {user_hash} in it, or none."""
    if value == "":
        return ""
    if not isinstance(value, str):
        return "must be an address"
    url = template(value)
    try:
        validate(url, names_visitor=False, placeholders=PLACEHOLDERS)
    except InvalidCallbackURL as error:
        return f"is no address to call: {error}"
    if f"{{{USER_HASH}}}" not in url.partition("#")[0]:
        return "must contain {user_hash}, so that the billing system knows whom to credit"
    return ""


class ReferralsSettings(Group):
    """The referrals' settings."""

    REFERRALS_BILLING_URL = Setting("", a_billing_url, "affiliations_referrals.E001")
    REFERRALS_CURRENCY = Setting("USD", a_currency, "affiliations_referrals.E002")
    REFERRALS_KEY = Setting("ref", a_token, "affiliations_referrals.E003")
    REFERRALS_USER_HASH: Setting[Any] = Setting(None, a_path_or_none, "affiliations_referrals.E004")
    REFERRALS_INVITATIONS: Setting[Any] = Setting(
        (50, timedelta(days=1)), a_rate(days=366), "affiliations_referrals.E005"
    )


settings = ReferralsSettings()
