"""What a network is told, and in which of its own words.

No Django in here. Source: HasOffers/TUNE, "server postback" and "macros".
"""

from __future__ import annotations

from collections.abc import Mapping

from ..callbackurl import PLACEHOLDERS as CORE
from ..callbackurl import TOKEN

__all__ = ["GIVEN", "OF_CLICK", "PLACEHOLDERS", "REJECTED", "TRIGGER", "template", "with_status"]

#: What a completed purchase is called among conversions.
TRIGGER = "Link completed"

#: Filled from what the click's query held. A visitor may have written these: they name a click, and
#: none of them is worth money.
OF_CLICK = (
    "transaction_id",
    "offer_id",
    "aff_id",
    "aff_sub",
    "aff_sub2",
    "aff_sub3",
    "aff_sub4",
    "aff_sub5",
    "source",
)
#: What whoever reports the purchase may give besides the amount; never taken from a click.
GIVEN = (
    "goal_id",
    "goal_ref",
    "adv_sub",
    "adv_sub2",
    "adv_sub3",
    "adv_sub4",
    "adv_sub5",
    "adv_unique1",
    "adv_unique2",
    "adv_unique3",
    "adv_unique4",
    "adv_unique5",
    "payout",
    "revenue",
    "promo_code",
)
#: What we know ourselves.
OURS = ("item_id", "user_id", "order_id", "conversion_unique_id", "status", TOKEN)
PLACEHOLDERS = (*CORE, *OF_CLICK, *GIVEN, *OURS)
APPROVED, REJECTED = "approved", "rejected"


def template(url: str, query: Mapping[str, object]) -> str:
    """Return the address to call for a purchase, with its placeholders.

    One without any is completed as the network's documents have it: by what the click's query held
    of the network's own, and by the amount.
    """
    if "{" in url.replace(f"{{{TOKEN}}}", ""):
        return url
    named = ["transaction_id", *(name for name in OF_CLICK[1:] if query.get(name))]
    named += ["amount", "adv_sub", "conversion_unique_id"]
    return _with(url, "&".join(f"{name}={{{name}}}" for name in named))


def with_status(url: str) -> str:
    """Return a template that says the status, as an adjustment has to."""
    return url if "{status}" in url else _with(url, "status={status}")


def _with(url: str, query: str) -> str:
    rest, hash_sign, fragment = url.partition("#")
    joint = "&" if "?" in rest and not rest.endswith(("?", "&")) else "" if "?" in rest else "?"
    return f"{rest}{joint}{query}{hash_sign}{fragment}"
