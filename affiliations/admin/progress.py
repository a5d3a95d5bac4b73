"""Do what takes a while, and show meanwhile how far it is: without script, and without polling.

What is done within a second is answered as ever. Of all else the page is sent piece by piece: each
piece is a bar, of which the stylesheet shows the last alone, and at the end stands the outcome in
their place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.translation import gettext as _

from ..streaming import streamed as answered
from .pages import page

__all__ = ["Outcome", "Steps", "streamed"]

logger = logging.getLogger(__name__)

#: Seconds that somebody waits for an answer before they are shown how far it is.
PATIENCE = 1.0
#: Seconds between two bars.
EVERY = 0.3
#: Where the template has what is sent by and by; stands in no other place of a page.
HERE = "<!--progress-->"


class Outcome(NamedTuple):
    """How it ended: in words, with where to go on; or as `html`, in the place of both."""

    text: str = ""
    level: int = messages.SUCCESS
    url: str = ""
    label: str = ""
    html: str = ""


#: Yields how much is done and of how much, which may be None, and returns how it ended.
Steps = Generator[tuple[int, int | None], None, Outcome]


def streamed(
    model_admin: Any,
    request: HttpRequest,
    steps: Steps,
    *,
    title: str,
    unit: str,
    patience: float | None = None,
    template: str = "progress.html",
    **context: Any,
) -> HttpResponseBase:
    """Answer with how `steps` went, and until then with how far they are.

    `unit` is what they count, in the plural. `context` is for the template that `pages.page` looks
    for, which has `{{ here|safe }}` where it is shown. An outcome with a `url` that is there within
    a second is a message on that page. What steps raise by then is raised; later it is logged, and
    the page says that something went wrong. With a `patience` of 0 the page is sent at once, where
    the first step is known to take longer.

    Who closes the page ends the steps where they have yielded: so let them yield outside of any
    transaction, with what was done committed. The view should be `transaction.non_atomic_requests`.
    """
    begun = time.monotonic()
    far: tuple[int, int | None] = (0, None)
    while time.monotonic() < begun + (PATIENCE if patience is None else patience):
        try:
            far = next(steps)
        except StopIteration as stop:
            context["title"] = title
            return _at_once(model_admin, request, stop.value, template, context)
    context |= {"title": title, "here": HERE, "is_under_way": True}
    response = page(model_admin, request, template, **context)
    head, _here, foot = response.rendered_content.partition(HERE)
    content_type = "text/html; charset=utf-8"
    pieces = _as_now(_pieces(head, steps, far, unit, foot))
    answer = answered(request, pieces, content_type=content_type)
    # A proxy that gathers a page before it passes it on would show no bar.
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def _at_once(
    model_admin: Any, request: HttpRequest, outcome: Outcome, template: str, context: dict[str, Any]
) -> HttpResponseBase:
    if outcome.url and not outcome.html:
        messages.add_message(request, outcome.level, outcome.text)
        return HttpResponseRedirect(outcome.url)
    return page(model_admin, request, template, here=_ended(outcome), **context)


def _as_now(pieces: Iterator[str]) -> Iterator[bytes]:
    """Yield each piece, made in the language and the time zone of whoever asked."""
    # By the time the answer is read, the middleware that set them has gone.
    language, zone = translation.get_language(), timezone.get_current_timezone()
    while True:
        with translation.override(language), timezone.override(zone):
            try:
                piece = next(pieces)
            except StopIteration:
                return
        yield piece.encode()


def _pieces(
    head: str, steps: Steps, far: tuple[int, int | None], unit: str, foot: str
) -> Iterator[str]:
    yield f"{head}{_bar(*far, unit)}"
    shown = time.monotonic()
    while True:
        try:
            far = next(steps)
        except StopIteration as stop:
            outcome = stop.value
            break
        except Exception:
            # The page is half sent: there is no other answer to give any more.
            logger.exception("What was under way has failed: %r", steps)
            text = _("Something went wrong, and it ended there. What was done until then is kept.")
            outcome = Outcome(text, messages.ERROR)
            break
        if time.monotonic() >= shown + EVERY:
            yield _bar(*far, unit)
            shown = time.monotonic()
    yield f"{_ended(outcome)}{foot}"


def _bar(done: int, total: int | None, unit: str) -> str:
    number = number_format(done, use_l10n=True, force_grouping=True)
    if not total:
        bar = format_html('<progress aria-label="{}"></progress>', unit)
        return format_html('<p class="aff-step">{} {} {}</p>\n', bar, number, unit)
    text = _("%(done)s of %(total)s %(unit)s") % {
        "done": number,
        "total": number_format(max(total, done), use_l10n=True, force_grouping=True),
        "unit": unit,
    }
    return format_html(
        '<p class="aff-step"><progress max="{}" value="{}" aria-label="{}"></progress> {}</p>\n',
        max(total, done),
        done,
        unit,
        text,
    )


def _ended(outcome: Outcome) -> str:
    is_good = outcome.level < messages.WARNING
    return render_to_string(
        "admin/affiliations/outcome.html", {"outcome": outcome, "is_good": is_good}
    )
