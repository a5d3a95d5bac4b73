"""Links as they are made, and what cannot be one."""

import re
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.test import override_settings
from django.utils import timezone

from affiliations.links import services
from affiliations.links.exceptions import InvalidLink, UnknownLink
from affiliations.links.models import LandingPage, Link, new_path
from affiliations.links.models.links import BASE58
from tests.core.factories import make_partner
from tests.links.factories import make_link

pytestmark = pytest.mark.django_db

GIVEN = {"item_id": "course-7", "landing_page": "https://shop.example/course"}


def test_a_link_is_generated_from_what_the_document_asks_for():
    link = services.generate_link(
        **GIVEN,
        callback_url="https://example.go2cloud.org/aff_lsr?transaction_id={transaction_id}",
        floor="12.5",
        currency="eur",
    )
    assert re.fullmatch(f"[{BASE58}]{{8}}", link.path)
    assert str(link.floor) == "12.50 EUR"
    assert link.active
    assert services.described(link) == {
        "mlp": "https://shop.example/course",
        "item_id": "course-7",
        "floor_price": "12.50",
    }


def test_what_is_left_out_has_its_default():
    link = services.generate_link(**GIVEN)
    assert (str(link.floor), link.callback_url, link.partner) == ("0.00 USD", "", None)
    with override_settings(AFFILIATE_LINKS_CURRENCY="JPY"):
        assert services.described(services.generate_link(**GIVEN))["floor_price"] == "0"


def test_paths_are_all_different():
    assert len({new_path() for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"item_id": ""}, "item_id"),
        ({"item_id": "   "}, "item_id"),
        ({"item_id": "x" * 201}, "item_id"),
        ({"item_id": "a\0b"}, "item_id"),
        ({"item_id": "\ud800"}, "item_id"),
        ({"landing_page": ""}, "landing_page"),
        ({"landing_page": "/course"}, "landing_page"),
        ({"landing_page": "https://a.example/\n"}, "landing_page"),
        ({"callback_url": "ftp://a.example/"}, "callback_url"),
        ({"callback_url": "https://a.example/{nonsense}"}, "callback_url"),
        ({"callback_url": "https://{transaction_id}.example/"}, "callback_url"),
        ({"callback_url": "http://169.254.169.254/{transaction_id}"}, "callback_url"),
        ({"callback_url": "http://testserver/{transaction_id}"}, "callback_url"),
        ({"floor": "-1"}, "floor_price"),
        ({"floor": "1.234"}, "floor_price"),
        ({"floor": "x"}, "floor_price"),
        ({"floor": 1.5}, "floor_price"),
        ({"floor": "9" * 30}, "floor_price"),
        ({"currency": "XXX"}, "currency"),
        ({"path": "a"}, "path"),
        ({"path": "a/b"}, "path"),
        ({"path": "x" * 65}, "path"),
        ({"path": "List"}, "path"),
        ({"path": "openapi"}, "path"),
        ({"path": "taken"}, "path"),
        ({"path": "TAKEN"}, "path"),
        ({"weight": 0}, "weight"),
        ({"adds": "a\nb"}, "adds"),
        ({"adds": "&&"}, "adds"),
        ({"expects": "x" * 201}, "expects"),
        (
            {"valid_from": timezone.now(), "valid_until": timezone.now() - timedelta(days=1)},
            "valid_until",
        ),
    ],
)
def test_what_is_wrong_is_said_by_field_and_nothing_is_made(settings, wrong, field):
    settings.AFFILIATE_CALLBACK_ALLOW = []
    make_link(path="taken")
    with pytest.raises(InvalidLink) as raised:
        services.generate_link(**{**GIVEN, **wrong})
    assert list(raised.value.errors) == [field]
    assert all(isinstance(each, str) and each for each in raised.value.errors[field])
    assert Link.objects.count() == 1


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidLink) as raised:
        services.generate_link(item_id="", landing_page="x", floor="x", path="?", currency="?")
    assert set(raised.value.errors) == {"item_id", "landing_page", "path", "currency"}


def test_no_row_holds_what_nobody_can_be_led_to():
    link = make_link()
    link.landing_page = "javascript:alert(1)"
    with pytest.raises(ValidationError):
        link.save()
    with pytest.raises(ValidationError):
        LandingPage.objects.create(link=link, url="//evil.example/")


def test_an_address_that_was_let_in_keeps_nobody_from_changing_the_rest(settings):
    link = make_link(callback_url="http://127.0.0.1:9/{transaction_id}")
    settings.AFFILIATE_CALLBACK_ALLOW = []
    link = Link.objects.get(pk=link.pk)
    link.active = False
    link.save()
    link.callback_url = "http://127.0.0.1:8/{transaction_id}"
    with pytest.raises(ValidationError, match="callback_url"):
        link.save()


def test_what_is_deleted_is_there_for_nobody():
    anna, berta = make_partner(), make_partner()
    link = make_link(partner=anna, path="summer")
    for path, partner in (("summer", berta), ("nothere", None), ("a" * 999, None), ("\0", None)):
        with pytest.raises(UnknownLink):
            services.delete_link(path, partner=partner)
    assert services.find_link("summer", partner=anna) == link
    services.delete_link("summer", partner=anna)
    with pytest.raises(UnknownLink):
        services.find_link("summer")
    assert list(Link.objects.kept()) == []


def test_which_links_are_usable():
    now = timezone.now()
    good = [make_link(), make_link(valid_from=now, valid_until=now + timedelta(days=1))]
    make_link(active=False)
    make_link(valid_from=now + timedelta(days=1))
    make_link(valid_until=now - timedelta(days=1))
    make_link(deleted_on=now)
    assert list(Link.objects.usable().order_by("pk")) == good
