"""The admin: every page opens, and what staff do there is done."""

import json

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.core import serializers
from django.urls import reverse

from affiliations import signing
from affiliations.models import ApiKey, Callback, Conversion, Partner
from affiliations.services import record_conversion
from tests.core.factories import make_partner, make_user, make_visitor

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def conversion():
    user = make_user()
    partner = make_partner({"Order placed": "https://p.example/?v={visitor_id}"}, name=HOSTILE)
    make_visitor(partner, user=user, entry_point="javascript:alert(1)")
    return record_conversion(trigger="Order placed", reference=HOSTILE, user=user)


def page(name, *args):
    return reverse(f"admin:affiliations_{name}", args=args)


def act(client, model, action, *rows):
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(page(f"{model}_changelist"), data)


def dump():
    """Return all that is stored, as text."""
    rows = [row for model in apps.get_models() for row in model._base_manager.all()]
    sessions = [session.get_decoded() for session in Session.objects.all()]
    return serializers.serialize("json", rows) + json.dumps(sessions)


def test_every_page_opens_and_shows_nothing_raw(admin_client, conversion):
    ApiKey.objects.issue(name=HOSTILE, scopes=["read"])
    rows = {
        "partner": Partner.objects.get(),
        "visitor": conversion.visitor,
        "conversion": conversion,
        "callback": Callback.objects.get(),
        "apikey": ApiKey.objects.get(),
    }
    for model, row in rows.items():
        for url in (page(f"{model}_changelist"), page(f"{model}_change", row.pk)):
            response = admin_client.get(url)
            assert response.status_code == 200, url
            assert HOSTILE not in response.content.decode()
            assert 'href="javascript:' not in response.content.decode()
    why = admin_client.get(page("conversion_change", conversion.pk)).content.decode()
    assert "The latest click earns the conversion." in why


def test_the_list_of_partners_takes_the_same_queries_however_long(
    admin_client, django_assert_max_num_queries
):
    make_visitor(make_partner())
    for _ in range(20):
        make_visitor()
    with django_assert_max_num_queries(6):
        admin_client.get(page("partner_changelist"))


def test_partners_are_switched_on_and_off(admin_client):
    partner = make_partner()
    act(admin_client, "partner", "deactivate", partner)
    assert not Partner.objects.get().active
    act(admin_client, "partner", "activate", partner)
    assert Partner.objects.get().active
    assert LogEntry.objects.count() == 2


def test_a_signing_secret_is_shown_once_and_kept_nowhere(admin_client, caplog):
    partner = make_partner()
    response = act(admin_client, "partner", "rotate_secret", partner)
    shown = signing.encode_secret(Partner.objects.get().signing_secrets()[0])
    assert shown in response.content.decode().replace("&#x2B;", "+")
    assert "no-store" in response["Cache-Control"]
    assert shown.removeprefix("whsec_") not in dump() + caplog.text
    for name in ("partner_changelist", "partner_add"):
        assert shown not in admin_client.get(page(name)).content.decode()
    response = act(admin_client, "partner", "rotate_secret", partner, make_partner())
    assert response.status_code == 302


def test_an_api_key_is_shown_once_and_kept_nowhere(admin_client, caplog):
    data = {"name": "shop", "partner": "", "scopes": '["read"]'}
    content = admin_client.post(page("apikey_add"), data).content.decode()
    token = content.partition("<code>")[2].partition("</code>")[0]
    assert ApiKey.objects.authenticate(token, scope="read").name == "shop"
    assert token.partition(".")[2] not in dump() + caplog.text
    act(admin_client, "apikey", "revoke", ApiKey.objects.get())
    assert ApiKey.objects.get().revoked_on is not None


def test_what_is_kept_would_be_found(admin_client):
    """The dump that the secrets are looked for in does hold what is stored in the clear."""
    key, token = ApiKey.objects.issue(name="shop", scopes=[])
    ApiKey.objects.filter(pk=key.pk).update(name=token)
    assert token.partition(".")[2] in dump()


def test_callbacks_are_sent_again_and_canceled(admin_client, conversion):
    callback = Callback.objects.get()
    act(admin_client, "callback", "cancel", callback)
    assert Callback.objects.get().state == "canceled"
    assert act(admin_client, "callback", "cancel", callback).status_code == 302
    act(admin_client, "callback", "send_again", callback)
    assert Callback.objects.get().state == "pending"


def test_a_conversion_is_taken_back(admin_client, conversion):
    act(admin_client, "conversion", "take_back", conversion)
    assert Conversion.objects.get().reversed_on is not None


def test_who_may_only_look_can_do_nothing(client, conversion, django_user_model):
    viewer = make_user("viewer")
    viewer.is_staff = True
    viewer.save()
    permissions = viewer.user_permissions.model.objects.filter(codename__startswith="view_")
    viewer.user_permissions.set(permissions)
    client.force_login(viewer)
    before = dump()
    act(client, "partner", "rotate_secret", Partner.objects.get())
    act(client, "conversion", "take_back", conversion)
    act(client, "callback", "cancel", Callback.objects.get())
    assert client.post(page("apikey_add"), {"name": "x"}).status_code == 403
    assert dump() == before
