"""The tools for a site's own tests: they hold, and they fail when they should."""

import re
from datetime import UTC, datetime

import pytest
import requests
from django.utils import timezone

from affiliations.exceptions import InvalidSignature
from affiliations.models import Partner
from affiliations.testing import (
    assert_converted,
    assert_not_converted,
    callback_server,
    freeze,
    refer,
)
from affiliations.triggers import complete_trigger
from tests.core.factories import make_partner, make_user, make_visitor


@pytest.mark.django_db
def test_refer_fails_where_nobody_is_recorded(client):
    with pytest.raises(AssertionError, match="left no visitor"):
        refer(client, make_partner(active=False))


@pytest.mark.django_db
def test_assert_converted_says_what_it_found():
    user = make_user()
    partner = make_partner({"T": ""})
    make_visitor(partner, user=user)
    with pytest.raises(AssertionError, match="recorded are: none"):
        assert_converted("T")
    complete_trigger(None, "T", user=user, reference="A-1", amount="5", currency="eur")
    [conversion] = assert_converted("T", partner=partner, reference="A-1", amount_minor=500)
    assert conversion.user == user
    assert_not_converted("T", partner=make_partner())
    with pytest.raises(AssertionError, match="found 1; recorded are: T \\(A-1\\)"):
        assert_not_converted("T")
    with pytest.raises(AssertionError, match="expected 2"):
        assert_converted("T", times=2)


def test_the_server_keeps_what_it_is_sent_and_answers_in_turn():
    with callback_server() as server:
        server.answers = [500, None, 204]
        url = re.sub(r"{[a-z0-9_]+}", "a%20b", server.callback_url)
        assert requests.get(url, timeout=5).status_code == 500
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)
        for _ in range(2):
            assert requests.post(url, data=b"body", timeout=5).status_code == 204
    assert [call.method for call in server.received] == ["GET", "GET", "POST", "POST"]
    assert server.received[0].query["reference"] == "a b"
    assert server.received[3].body == b"body"
    with pytest.raises(InvalidSignature):
        server.received[0].verify(b"secret")


@pytest.mark.django_db
def test_the_clock_stops_for_everybody():
    at = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    with freeze(at) as clock:
        assert timezone.now() == at
        assert isinstance(at, timezone.datetime)
        assert make_partner().created_on == at  # a field's default
        assert Partner.objects.get().changed_on == at  # auto_now
        assert clock.tick(days=1, hours=1) == timezone.now()
        assert timezone.now().date().isoformat() == "2026-02-04"
    assert timezone.now() != at
