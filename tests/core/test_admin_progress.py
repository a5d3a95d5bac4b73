"""What takes a while shows how far it is, and ends in an outcome, whatever becomes of it."""

import logging
import re
from itertools import islice

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin, messages
from django.contrib.messages import get_messages
from django.contrib.messages.storage.fallback import FallbackStorage
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.html import format_html

from affiliations.admin import progress
from affiliations.admin.progress import Outcome, streamed
from affiliations.models import Partner
from tests.core.factories import make_user

pytestmark = pytest.mark.django_db
DONE = Outcome("All <done>.", url="/there/", label="Go & look")


def counting(total=3, outcome=DONE, taken=None, error=None):
    for number in range(1, total + 1):
        if taken is not None:
            taken.append(number)
        yield number, total
    if error is not None:
        raise error
    return outcome


def ask(steps, factory=RequestFactory):
    request = factory().get("/")
    request.user = make_user()
    request.session = {}
    request._messages = FallbackStorage(request)
    model_admin = admin.site._registry[Partner]
    answer = streamed(model_admin, request, steps, title="Working", unit="accounts")
    return request, answer


def text_of(answer):
    return answer.getvalue().decode() if answer.streaming else answer.rendered_content


@pytest.fixture
def impatient(monkeypatch):
    """Show how far it is from the first moment on, and each step."""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)


def test_what_is_done_at_once_is_a_message_on_the_next_page():
    request, answer = ask(counting())
    assert (answer.status_code, answer.url) == (302, "/there/")
    assert [(each.level, each.message) for each in get_messages(request)] == [
        (messages.SUCCESS, "All <done>.")
    ]


def test_what_is_done_at_once_and_leads_nowhere_is_a_page():
    html = format_html("<form>{}</form>", "<")
    _, answer = ask(counting(outcome=Outcome(html=html)))
    text = answer.render().content.decode()
    assert "<form>&lt;</form>" in text
    assert "leave this page open" not in text
    assert "<progress" not in text


def test_what_goes_wrong_at_once_is_raised():
    with pytest.raises(ZeroDivisionError):
        ask(counting(error=ZeroDivisionError()))


def test_each_step_is_shown_when_it_is_done(impatient):
    taken = []
    _, answer = ask(counting(taken=taken))
    pieces = iter(answer)
    assert "<h1>Working</h1>" in next(pieces).decode()
    assert taken == []
    [first, second] = [piece.decode() for piece in islice(pieces, 2)]
    assert taken == [1, 2]
    assert '<progress max="3" value="1" aria-label="accounts"></progress> 1 of 3' in first
    assert "2 of 3 accounts" in second
    *_, last = pieces
    assert 'All &lt;done&gt;.</p>\n<p><a class="button default" href="/there/">Go &amp; look' in (
        last.decode()
    )
    assert last.decode().rstrip().endswith("</html>")
    assert progress.HERE not in text_of(ask(counting())[1])


def test_it_is_kept_by_no_cache_and_no_proxy_waits_for_its_end(impatient):
    _, answer = ask(counting())
    assert (answer["Cache-Control"], answer["X-Accel-Buffering"]) == ("private, no-store", "no")
    assert not [*re.finditer(r"<script(?! src)|style=", text_of(answer))]


def test_what_goes_wrong_later_is_told_and_logged(impatient, caplog):
    with caplog.at_level(logging.ERROR):
        text = text_of(ask(counting(error=ZeroDivisionError("by night")))[1])
    assert "What was done until then is kept." in text
    assert text.rstrip().endswith("</html>")
    assert "by night" not in text
    assert "by night" in caplog.text


def test_a_total_that_is_unknown_or_too_low(impatient):
    def steps():
        yield 1234, None
        yield 5, 3
        return Outcome("Half of it.", messages.WARNING)

    text = text_of(ask(steps())[1])
    assert '<progress aria-label="accounts"></progress> 1,234 accounts' in text
    assert 'max="5" value="5"' in text
    assert '<p class="errornote">Half of it.</p>' in text


def test_who_closes_the_page_ends_the_steps(impatient):
    taken = []
    _, answer = ask(counting(total=100, taken=taken))
    pieces = iter(answer)
    next(pieces), next(pieces)
    answer.close()
    assert taken == [1]


def test_there_is_no_bar_for_each_of_many_steps(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert text_of(ask(counting(total=10_000))[1]).count("<progress") < 10


def test_it_is_streamed_under_asgi_too(impatient):
    taken = []
    _, answer = ask(counting(total=100, taken=taken), AsyncRequestFactory)

    async def two():
        pieces = aiter(answer)
        return [await anext(pieces), await anext(pieces)]

    assert b"1 of 100 accounts" in async_to_sync(two)()[1]
    assert taken == [1]
