"""What a visitor does, to be sent by `visitor.send_hit`.

    hit = Transaction("T1", "purchase").with_total_revenue(59.97).with_currency("EUR")

Each setter returns the hit. What cannot be is refused at once, by TypingError or ParamError, which
name the argument; but a page's address when it is sent, by what `send_hit` returns.
"""

from __future__ import annotations

import ipaddress
import json
from decimal import Decimal
from enum import Enum
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator

from ...money import DECIMAL_PLACES
from .arguments import number, text, typed, whole
from .errors import ParamError

__all__ = ["Event", "EventCategory", "Hit", "HitType", "Item", "Page", "Screen", "Transaction"]

MAX_LINE, MAX_LOCATION, MAX_SHORT, MAX_LOCALE, MAX_DIGITS = 500, 2048, 10, 20, 10
_is_url = URLValidator(schemes=["http", "https"])


class HitType(Enum):
    """The kinds of hits, by what they are called on the wire."""

    PAGE = "PAGEVIEW"
    SCREENVIEW = "SCREENVIEW"
    EVENT = "EVENT"
    TRANSACTION = "TRANSACTION"
    ITEM = "ITEM"


class EventCategory(Enum):
    """The two kinds of events."""

    ACTION_TRACKING = "Action Tracking"
    USER_ENGAGEMENT = "User Engagement"


class Hit:
    """What all hits have; applications make one of the others."""

    def __init__(self, hit_type: HitType, **fields: Any) -> None:
        self.hit_type = typed("hit_type", hit_type, HitType)
        self._data: dict[str, Any] = {"t": hit_type.value, "ds": "APP", **fields}

    def __str__(self) -> str:
        return f"Hit : {json.dumps(self._data)}"

    def get_data(self) -> dict[str, Any]:
        """Return the hit's fields, as they are called on the wire."""
        return dict(self._data)

    def problem(self) -> str:
        """Return why the hit cannot be sent, "" where it can."""
        return ""

    def _with(self, field: str, value: Any) -> Self:
        self._data[field] = value
        return self

    def with_ip(self, ip: str) -> Self:
        """Set the visitor's address, of IPv4 or IPv6; it is not kept."""
        try:
            ipaddress.ip_address(text("ip", ip))
        except ValueError:
            raise ParamError("ip: must be an address of IPv4 or IPv6") from None
        return self._with("uip", ip)

    def with_resolution(self, width: int, height: int) -> Self:
        """Set the size of the screen, in pixels, each of at most 10 digits."""
        width = whole("width", width, digits=MAX_DIGITS)
        return self._with("sr", f"{width}x{whole('height', height, digits=MAX_DIGITS)}")

    def with_locale(self, locale: str) -> Self:
        """Set the visitor's language, of at most 20 characters."""
        return self._with("ul", text("locale", locale, most=MAX_LOCALE))

    def with_session_number(self, number: int) -> Self:
        """Set which of the visitor's sessions it is."""
        return self._with("sn", whole("number", number))

    def with_current_session_timestamp(self, timestamp: int) -> Self:
        """Set when the visitor's session began, as a number that the application has for that."""
        return self._with("cst", whole("timestamp", timestamp))


class Page(Hit):
    """Somebody has seen the page of an address, of at most 2,048 characters."""

    def __init__(self, location: str) -> None:
        super().__init__(HitType.PAGE, dl=text("location", location, most=MAX_LOCATION))

    def problem(self) -> str:
        """Return why the address is none."""
        location = self._data["dl"]
        try:
            _is_url(location)
        except ValidationError:
            return f"location: {location[:100]!r} is not a valid URL"
        return ""


class Screen(Hit):
    """Somebody has seen a screen, or whatever it is called, in at most 2,048 characters."""

    def __init__(self, location: str) -> None:
        super().__init__(
            HitType.SCREENVIEW, dl=text("location", location, most=MAX_LOCATION, needed=True)
        )


class Event(Hit):
    """Somebody has done something; `action` says what, in at most 500 characters."""

    def __init__(self, category: EventCategory, action: str) -> None:
        super().__init__(
            HitType.EVENT,
            ec=typed("category", category, EventCategory).value,
            ea=text("action", action, most=MAX_LINE, needed=True),
        )

    def with_event_label(self, label: str) -> Self:
        """Describe it, in at most 500 characters."""
        return self._with("el", text("label", label, most=MAX_LINE))

    def with_event_value(self, value: int) -> Self:
        """Say what it is worth: a whole number from 1 on."""
        return self._with("ev", whole("value", value, least=1))


class Item(Hit):
    """Something is part of a transaction; each argument has at most 500 characters."""

    def __init__(self, transaction_id: str, product_name: str, product_sku: str) -> None:
        super().__init__(
            HitType.ITEM,
            tid=text("transaction_id", transaction_id, most=MAX_LINE, needed=True),
            **{"in": text("product_name", product_name, most=MAX_LINE, needed=True)},
            ic=text("product_sku", product_sku, most=MAX_LINE, needed=True),
        )

    def with_price(self, price: float | Decimal) -> Self:
        """Set the price of one."""
        return self._with("ip", number("price", price))

    def with_item_quantity(self, item_quantity: int) -> Self:
        """Set how many were bought."""
        return self._with("iq", whole("item_quantity", item_quantity))

    def with_item_category(self, category: str) -> Self:
        """Set what kind of thing it is, in at most 500 characters."""
        return self._with("iv", text("category", category, most=MAX_LINE))


class Transaction(Hit):
    """Somebody has bought something; each argument has at most 500 characters.

    `affiliation` is what the transaction counts for.
    """

    def __init__(self, transaction_id: str, affiliation: str) -> None:
        super().__init__(
            HitType.TRANSACTION,
            tid=text("transaction_id", transaction_id, most=MAX_LINE, needed=True),
            ta=text("affiliation", affiliation, most=MAX_LINE, needed=True),
        )

    def with_total_revenue(self, revenue: float | Decimal) -> Self:
        """Set what was paid, with shipping and taxes."""
        return self._with("tr", number("revenue", revenue))

    def with_shipping_cost(self, shipping: float | Decimal) -> Self:
        """Set what of it was for shipping."""
        return self._with("ts", number("shipping", shipping))

    def with_shipping_method(self, shipping_method: str) -> Self:
        """Set how it is shipped, in at most 10 characters."""
        return self._with("sm", text("shipping_method", shipping_method, most=MAX_SHORT))

    def with_taxes(self, taxes: float | Decimal) -> Self:
        """Set what of it were taxes."""
        return self._with("tt", number("taxes", taxes))

    def with_currency(self, currency: str) -> Self:
        """Set the currency of all amounts: a code of ISO 4217."""
        if text("currency", currency).upper() not in DECIMAL_PLACES:
            raise ParamError(f"currency: {currency[:20]!r} is not an ISO 4217 code")
        return self._with("tc", currency)

    def with_payment_method(self, payment: str) -> Self:
        """Set how it was paid, in at most 10 characters."""
        return self._with("pm", text("payment", payment, most=MAX_SHORT))

    def with_item_count(self, item_nb: int) -> Self:
        """Set how many items there are."""
        return self._with("icn", whole("item_nb", item_nb))

    def with_coupon_code(self, coupon: str) -> Self:
        """Set the coupon that was used, in at most 10 characters."""
        return self._with("tcc", text("coupon", coupon, most=MAX_SHORT))
