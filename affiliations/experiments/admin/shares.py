"""Draw who gets what share, and say what a change of shares moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ... import charts
from ..allocation import spread
from ..hashing import BUCKETS

__all__ = ["Moved", "Part", "bar", "legend", "moved", "swatch"]

#: Colours that there are.
COLOURS = 8
NOBODY = "nobody"


class Part(NamedTuple):
    """Somebody's share, in percent."""

    name: Any
    share: int
    swatch: SafeString


def bar(named: Sequence[tuple[str, int]], *, title: str) -> SafeString:
    """Draw shares side by side, and what is left over at their end; in words it says all of it."""
    left = BUCKETS - sum(share for _name, share in named)
    parts = [(_look(index), share) for index, (_name, share) in enumerate(named)]
    said = [f"{name} {share} %" for name, share in named]
    if left > 0:
        parts.append((NOBODY, left))
        said.append(_("nothing %(n)s %%") % {"n": left})
    return charts.stacked(parts, title=f"{title}: {', '.join(said)}")


def legend(named: Sequence[tuple[Any, int]], nothing: str) -> list[Part]:
    """Return what `bar` draws, for a list beside it; `nothing` is what the rest is called."""
    left = BUCKETS - sum(share for _name, share in named)
    found = [Part(name, share, swatch(_look(i))) for i, (name, share) in enumerate(named)]
    return [*found, Part(nothing, left, swatch(NOBODY))] if left > 0 else found


def swatch(look: str) -> SafeString:
    """Draw a colour of `bar`."""
    return format_html(
        '<svg class="aff-swatch" width="12" height="12" aria-hidden="true" focusable="false">'
        '<rect class="aff-part-{}" width="12" height="12" rx="2"/></svg>',
        look,
    )


def _look(index: int) -> str:
    return f"share-{index % COLOURS + 1}"


class Moved(NamedTuple):
    """How many of a group's hundred buckets a change gives to others."""

    #: From one variation to another.
    between: int
    #: From nobody to a variation.
    joining: int
    #: From a variation to nobody.
    leaving: int

    def __bool__(self) -> bool:
        return any(self)


def moved(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Moved:
    """Return how many buckets change hands between two groups of versions."""
    old = spread(before["runs"]) if before else [None] * BUCKETS
    pairs = [pair for pair in zip(old, spread(after["runs"]), strict=True) if pair[0] != pair[1]]
    joining = sum(one is None for one, _other in pairs)
    leaving = sum(other is None for _one, other in pairs)
    return Moved(len(pairs) - joining - leaving, joining, leaving)
