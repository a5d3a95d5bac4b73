"""Let long addresses break into lines where whoever reads them would."""

from __future__ import annotations

import re

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def breakable(address: str) -> SafeString:
    """Return an address that may be broken after each /, ? and &, and is copied as it was."""
    return format_html_join("", "{}<wbr>", ((part,) for part in re.split(r"(?<=[/?&])", address)))
