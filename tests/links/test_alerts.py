"""Who is mailed of a refund."""

import pytest
from django.core import mail
from django.core.management import call_command
from django.db import transaction

from affiliations.links import alerts, services
from affiliations.links.models import Transaction
from affiliations.models import Callback
from tests.core.factories import make_partner, make_user
from tests.links.factories import NETWORK_ID, make_link, make_transaction

pytestmark = pytest.mark.django_db(transaction=True)

TO = ["thomas@shop.example"]


def refunded(**fields):
    user = make_user()
    make_transaction(make_link(**fields), user=user)
    services.complete(item_id="course-7", user=user, amount="20", order_id="A-1")
    return services.refund(item_id="course-7", user=user)


def test_the_refund_alias_is_mailed_once_it_is_committed(settings):
    settings.AFFILIATE_REFUND_ALERTS = TO
    with transaction.atomic():
        row = refunded(partner=make_partner(name="Example network"))
        assert not mail.outbox
    [message] = mail.outbox
    assert message.to == TO
    assert str(row.pk) in message.subject
    for what in ("course-7", "A-1", "20.00 USD", "Example network", NETWORK_ID, row.path):
        assert what in message.body
    assert "No network was to be told" in message.body
    assert alerts.send_due() == 0
    assert len(mail.outbox) == 1


def test_without_addresses_nobody_is():
    refunded()
    assert not mail.outbox
    assert not Transaction.objects.filter(alert_due=True).exists()


def test_a_refund_that_was_undone_is_no_news(settings):
    settings.AFFILIATE_REFUND_ALERTS = TO
    with transaction.atomic():
        refunded()
        transaction.set_rollback(True)
    assert not mail.outbox


@pytest.mark.parametrize(
    ("state", "attempts", "words"),
    [
        ("pending", 0, "had not been told yet"),
        ("refused", 1, "had refused it"),
        ("delivered", 1, "is now told that it does not count"),
    ],
)
def test_it_says_what_the_network_knows(settings, task_engine, state, attempts, words):
    settings.AFFILIATE_REFUND_ALERTS = TO
    user = make_user()
    make_transaction(make_link(callback_url="http://127.0.0.1:9/{transaction_id}"), user=user)
    services.complete(item_id="course-7", user=user, amount="20")
    Callback.objects.update(state=state, attempts=attempts)
    services.refund(item_id="course-7", user=user)
    alerts.send_due()  # the engine does nothing here
    assert words in mail.outbox[0].body


def test_a_mail_server_that_fails_is_tried_again_by_the_command(settings, monkeypatch, capsys):
    settings.AFFILIATE_REFUND_ALERTS = TO

    def fails(*args, **kwargs):
        raise OSError("no mail server")

    with monkeypatch.context() as patched:
        patched.setattr(alerts, "send_mail", fails)
        assert refunded().state == "refunded"
        with pytest.raises(OSError, match="no mail server"):
            call_command("send_refund_alerts")
    assert not mail.outbox
    call_command("send_refund_alerts")
    assert "1 refund mailed" in capsys.readouterr().out
    assert len(mail.outbox) == 1
    call_command("send_refund_alerts")
    assert "0 refunds mailed" in capsys.readouterr().out
