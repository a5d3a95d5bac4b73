"""Whom members would bring, known by their e-mail addresses."""

import hashlib
import threading
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import F
from django.db.models.signals import pre_save
from django.utils import timezone

from affiliations.privacy import export_user, forget_user
from affiliations.referrals import indications, mails, privacy
from affiliations.referrals.checks import check_database
from affiliations.referrals.exceptions import ProgramEnded
from affiliations.referrals.indications import Refused, indicate, indicators, invite
from affiliations.referrals.models import EmailIndication, MailRefusal, Member
from affiliations.referrals.privacy import purge_indications
from affiliations.testing import freeze
from tests.core.factories import make_user
from tests.core.promises.test_races import at_once
from tests.referrals.factories import balance, make_member, make_program

pytestmark = pytest.mark.django_db

LINK = "https://shop.example/?ref=x"


@pytest.fixture
def anna():
    make_program()
    user = make_user("anna")
    user.email = "Anna@Example.com"
    user.save()
    return make_member(user=user)


def saved(found):
    return [each.email for each in found.saved]


def test_addresses_are_noted_as_they_are_compared(anna):
    found = indicate(anna, [" Ben@Example.COM ", "ben@example.com", "carl@example.com", "", " "])
    assert saved(found) == ["ben@example.com", "carl@example.com"]
    assert not found.refused
    assert EmailIndication.objects.count() == 2
    assert not EmailIndication.objects.filter(mail_due=True).exists()


@pytest.mark.parametrize(
    "email",
    [
        "x",
        "a@b",
        "a b@example.com",
        "@example.com",
        "a\0@example.com",
        "a\n@example.com",
        "ä\ud800@example.com",
        f"{'a' * 250}@example.com",
        "a@example.com,b@example.com",
    ],
)
def test_what_is_no_address(anna, email):
    assert indicate(anna, [email]) == ([], [Refused(email, "invalid")])
    assert indicators([email]) == {email: None}


def test_who_was_first_has_indicated_an_address(anna):
    dora, elsewhere = make_member(), make_member(program=make_program())
    assert saved(indicate(anna, ["ben@example.com"])) == ["ben@example.com"]
    assert indicate(dora, ["BEN@example.com"]).refused == [Refused("BEN@example.com", "indicated")]
    assert saved(indicate(anna, ["ben@example.com"])) == ["ben@example.com"]
    assert saved(indicate(elsewhere, ["ben@example.com"])) == ["ben@example.com"]
    assert indicators([" Ben@example.com", "carl@example.com"]) == {
        "Ben@example.com": anna,
        "carl@example.com": None,
    }


def test_nobody_indicates_themselves(anna):
    assert indicate(anna, ["anna@example.com"]).refused == [Refused("anna@example.com", "own")]


def test_in_a_program_that_has_ended_nobody_is(anna):
    anna.program.active = False
    anna.program.save()
    with pytest.raises(ProgramEnded):
        indicate(anna, ["ben@example.com"])


def test_there_are_not_too_many_at_once(anna):
    many = [f"user{number}@example.com" for number in range(1001)]
    for ask in (lambda: indicate(anna, many), lambda: indicators(many)):
        with pytest.raises(ValueError, match=r"^emails: "):
            ask()
    assert len(indicate(anna, many[:1000]).saved) == 1000


def test_who_is_invited_is_written_to_once(anna):
    first = invite(anna, ["ben@example.com"], LINK)
    assert (first.saved[0].mail_due, first.saved[0].link) == (True, LINK)
    EmailIndication.objects.update(mail_due=False)
    again = invite(anna, ["ben@example.com"], LINK)
    assert saved(again) == ["ben@example.com"]
    assert not EmailIndication.objects.filter(mail_due=True).exists()


@pytest.mark.parametrize("link", ["", "x" * 501])
def test_a_link_is_one(anna, link):
    with pytest.raises(ValueError, match=r"^link: "):
        invite(anna, ["ben@example.com"], link)


def test_invitations_are_limited(anna, settings):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (2, timedelta(hours=1))
    with freeze() as clock:
        found = invite(anna, [f"{name}@example.com" for name in "bcd"], LINK)
        assert (len(found.saved), found.refused) == (2, [Refused("d@example.com", "limit")])
        assert saved(invite(anna, ["b@example.com"], LINK)) == ["b@example.com"]
        assert indicate(anna, ["e@example.com"]).saved
        clock.tick(hours=1, seconds=1)
        assert invite(anna, ["d@example.com"], LINK).saved


def test_what_another_page_has_just_noted_counts_once(anna, settings, monkeypatch):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (2, timedelta(days=1))
    locked = indications.locked

    def behind_another(rows, pk):
        monkeypatch.setattr(indications, "locked", locked)
        assert saved(invite(anna, ["ben@example.com"], LINK)) == ["ben@example.com"]
        return locked(rows, pk)

    monkeypatch.setattr(indications, "locked", behind_another)
    found = invite(anna, ["ben@example.com", "carl@example.com"], LINK)
    assert saved(found) == ["ben@example.com", "carl@example.com"]
    assert invite(anna, ["dora@example.com"], LINK).refused[0].reason == "limit"


@pytest.mark.django_db(transaction=True)
def test_the_limit_is_exact_also_of_many_at_once(anna, settings):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (5, timedelta(hours=1))
    names = [f"user{number}@example.com" for number in range(12)]
    at_once(12, lambda: invite(anna, [names.pop()], LINK))
    assert EmailIndication.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_first(anna):
    members = [anna, *(make_member() for _ in range(9))]
    found = at_once(10, lambda: indicate(members.pop(), ["ben@example.com"]))
    assert sorted(len(each.saved) for each in found) == [0] * 9 + [1]
    assert EmailIndication.objects.count() == 1


def test_who_wants_no_mails_gets_none_from_anybody(anna):
    [ben] = invite(anna, ["ben@example.com"], LINK).saved
    elsewhere = make_member(program=make_program())
    assert indications.refuse_mails(ben.token)
    assert indications.refuse_mails(ben.token)
    assert not EmailIndication.objects.filter(mail_due=True).exists()
    found = invite(elsewhere, ["Ben@example.com"], LINK)
    assert found.refused == [Refused("Ben@example.com", "unwanted")]
    assert saved(indicate(elsewhere, ["ben@example.com"])) == ["ben@example.com"]
    assert "ben" not in str(list(MailRefusal.objects.values()))


# The keys by which refusals are known

ADDRESS = "ben@example.com"
OLD, OLDER = django_settings.SECRET_KEY, b"\xff older"


def refused(email=ADDRESS):
    invited = invite(make_member(program=make_program()), [email], LINK)
    return [each.reason for each in invited.refused] == ["unwanted"]


def lost():
    return [str(each.msg) for each in check_database(None, databases=["default"])]


def plain(email):
    """Return the digest by which the refusals were known at first: without a key."""
    return [hashlib.sha256(f"affiliations.referrals:{email}".encode()).hexdigest()]


@pytest.fixture
def ben(anna):
    """Return the indication of somebody who has refused further mails."""
    [indication] = invite(anna, [ADDRESS], LINK).saved
    assert indications.refuse_mails(indication.token)
    return indication


def guessed(digest):
    """Return whether it is told by the digest alone whose it is, as by trying addresses."""
    return digest in {*plain(ADDRESS), hashlib.sha256(ADDRESS.encode()).hexdigest()}


def test_a_refusal_is_told_by_nobody_who_has_the_database_alone(ben, settings):
    first = MailRefusal.objects.get().digest
    assert not guessed(first)
    settings.SECRET_KEY = "another site's"
    assert first not in indications.digests_of(ADDRESS)


def test_teeth_a_plain_digest_is_guessed(anna, monkeypatch):
    monkeypatch.setattr(indications, "digests_of", plain)
    [indication] = invite(anna, [ADDRESS], LINK).saved
    assert indications.refuse_mails(indication.token)
    assert guessed(MailRefusal.objects.get().digest)


@pytest.mark.parametrize("fallbacks", [[OLD], [OLDER, OLD], [OLD, OLDER], [OLD, OLD]])
def test_a_refusal_outlives_its_key(ben, settings, fallbacks):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = b"\x00 new \xfe", fallbacks
    assert refused()
    assert refused(" BEN@Example.com")
    assert not refused("carl@example.com")
    # What was due all the same is not sent.
    EmailIndication.objects.filter(email=ADDRESS).update(mail_due=True)
    mails.send_due()
    assert [each.to for each in mail.outbox] == [["carl@example.com"]]
    assert not lost()


def test_it_is_one_query_however_many_keys_there_are(ben, settings, django_assert_num_queries):
    settings.SECRET_KEY_FALLBACKS = [f"key {number}" for number in range(50)]
    with django_assert_num_queries(1):
        assert indications.is_refused(ADDRESS)


def test_it_is_written_by_the_first_key_and_then_needs_no_other(ben, settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [OLD]
    assert indications.refuse_mails(ben.token)
    assert MailRefusal.objects.count() == 2
    settings.SECRET_KEY_FALLBACKS = []
    assert refused()


def test_a_key_that_is_gone_is_told(ben, settings):
    assert not lost()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["other"]
    assert lost() == ["1 refusals of mails were made with a SECRET_KEY that is gone."]
    assert not refused()
    settings.SECRET_KEY_FALLBACKS = ["other", OLD]
    assert (refused(), lost()) == (True, [])


@pytest.mark.parametrize("token", ["", "x", "a\0", "ä", "\ud800", "a" * 5000])
def test_a_token_of_nobody(token):
    assert not indications.refuse_mails(token)


# Who signs up with an address that somebody has indicated


def sign_up(client, name):
    users = get_user_model()

    def with_email(sender, instance, **kwargs):
        instance.email = f"{name}@example.com"

    pre_save.connect(with_email, sender=users)
    try:
        assert client.post("/signup/", {"username": name}).status_code == 201
    finally:
        pre_save.disconnect(with_email, sender=users)
    return users.objects.get(username=name)


def test_who_signs_up_with_an_indicated_address_is_registered(client, anna):
    invite(anna, ["ben@example.com"], LINK)
    ben = sign_up(client, "ben").affiliate_member
    assert (ben.indicator, balance(anna)) == (anna, (2000, 0))
    indication = EmailIndication.objects.get()
    assert (indication.member, indication.mail_due) == (ben, False)


def test_a_link_that_was_followed_counts_for_more(client, anna):
    dora = make_member()
    indicate(anna, ["ben@example.com"])
    client.get(f"/?ref={dora.code}")
    assert sign_up(client, "ben").affiliate_member.indicator == dora
    assert EmailIndication.objects.get().member is None


def test_an_address_of_nobody_registers_nobody(client, anna):
    sign_up(client, "ben")
    assert Member.objects.get() == anna


# What is held on a person


def test_addresses_are_exported_and_erased(client, anna):
    dora = make_member(user=make_user("dora"))
    indicate(anna, ["ben@example.com", "carl@example.com"])
    indicate(dora, ["erna@example.com"])
    ben = sign_up(client, "ben")
    assert export_user(anna.user)["referrals"]["has_indicated"] == [
        "ben@example.com",
        "carl@example.com",
    ]
    assert len(export_user(ben)["referrals"]["indicated"]) == 1
    assert forget_user(ben)["indications"] == 1
    assert forget_user(anna.user)["indications"] == 1
    left = set(EmailIndication.objects.values_list("email", flat=True))
    assert {each for each in left if "@" in each} == {"erna@example.com"}


def test_an_address_of_a_user_who_is_no_member(anna):
    carl = make_user("carl")
    carl.email = "CARL@example.com"
    carl.save()
    indicate(anna, ["carl@example.com"])
    assert export_user(carl)["referrals"]["indicated"][0]["program"] == anna.program.name
    assert forget_user(carl)["indications"] == 1
    assert "referrals" not in export_user(carl)


# Addresses that nobody came by


DAYS = 400


def ago(days):
    return timezone.now() - timedelta(days=days)


def make_old(*emails, days=DAYS + 1):
    """Have what was noted been noted so long ago; all of it, or some addresses."""
    rows = EmailIndication.objects.exclude(waiting_since=None)
    rows = rows.filter(email__in=emails) if emails else rows
    when = ago(days)
    rows.update(created_on=when, waiting_since=when)


def purge(*options):
    out = StringIO()
    call_command("purge_indications", "--older-than", f"{DAYS}d", *options, stdout=out)
    return out.getvalue()


def known():
    return {each.email for each in EmailIndication.objects.all() if not each.is_erased}


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_what_nobody_came_by_is_erased(client, anna, monkeypatch, batch):
    monkeypatch.setattr(privacy, "BATCH", batch)
    invite(anna, [f"{name}@example.com" for name in ("ben", "carl", "dora", "erna", "fred")], LINK)
    sign_up(client, "ben")
    forget_user(sign_up(client, "fred"))
    make_old("carl@example.com", "dora@example.com")
    make_old("erna@example.com", days=DAYS - 1)
    EmailIndication.objects.filter(waiting_since=None).update(created_on=ago(DAYS + 1))
    before = list(EmailIndication.objects.order_by("pk").values())
    assert purge("--dry-run") == "2 addresses would be erased.\n"
    assert list(EmailIndication.objects.order_by("pk").values()) == before
    assert purge() == "2 addresses erased.\n"
    assert known() == {"ben@example.com", "erna@example.com"}
    erased = EmailIndication.objects.exclude(email__contains="@").exclude(member=None)
    assert not erased.exclude(email__startswith="erased:").exists()
    for each in EmailIndication.objects.filter(email__startswith="erased:"):
        assert each.email == f"erased:{each.pk}"
        assert (each.link, each.mail_due, each.waiting_since) == ("", False, None)
    assert EmailIndication.objects.get(email="erna@example.com").mail_due
    assert purge() == "0 addresses erased.\n"


def test_the_same_moment_of_all_does_not_matter(anna, monkeypatch):
    """As of an import: batches end between rows that nothing but their keys tells apart."""
    monkeypatch.setattr(privacy, "BATCH", 3)
    indicate(anna, [f"user{number}@example.com" for number in range(10)])
    make_old()
    assert EmailIndication.objects.values("waiting_since").distinct().count() == 1
    done = []
    assert purge_indications(ago(DAYS), progress=done.append) == 10
    assert done == [3, 6, 9, 10]


def test_what_it_costs(anna, monkeypatch, django_assert_num_queries):
    """In a batch a look and a write, whatever else there is; and a look at the end."""
    monkeypatch.setattr(privacy, "BATCH", 2)
    for part in range(3):
        old = [f"user{part}{number}@example.com" for number in range(4)]
        indicate(anna, old)
        make_old(*old)
        indicate(anna, [f"user{part}{number}@example.net" for number in range(50)])
        savepoints = 2 * 3
        with django_assert_num_queries(2 + 2 + 1 + savepoints):
            assert purge_indications(ago(DAYS)) == 4


@pytest.mark.skipif(connection.vendor == "mysql", reason="has no way to leave out a small table")
def test_the_index_finds_them(monkeypatch):
    if connection.vendor == "postgresql":
        for other in ("seqscan", "bitmapscan", "sort"):
            connection.cursor().execute(f"SET LOCAL enable_{other} = off")
    plans = []

    def explained(rows):
        plans.append(rows[: privacy.BATCH].explain())
        return [(ago(DAYS), 1)] if len(plans) == 1 else []

    monkeypatch.setattr(privacy, "_erase", explained)
    purge_indications(ago(DAYS))
    assert len(plans) == 2
    for plan in plans:
        assert "affiliations_indication_old" in plan
        assert "TEMP B-TREE" not in plan
        assert "Sort" not in plan


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_nobody_invites_more_because_old_invitations_are_gone(anna, settings, options):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (1, timedelta(days=DAYS))
    invite(anna, ["ben@example.com"], LINK)
    make_old(days=DAYS - 1)
    settings.AFFILIATE_REFERRALS_INVITATIONS = (1, timedelta(days=DAYS + 1))
    with pytest.raises(CommandError, match="AFFILIATE_REFERRALS_INVITATIONS"):
        purge(*options)
    with pytest.raises(ValueError, match=r"^before: "):
        purge_indications(timezone.now())
    assert invite(anna, ["carl@example.com"], LINK).refused[0].reason == "limit"
    assert known() == {"ben@example.com"}


def test_what_was_erased_is_as_new(client, anna):
    """Whoever comes by it was brought by nobody; another may indicate it; refusals stay."""
    dora = make_member()
    [ben, carl, _] = invite(
        anna, ["ben@example.com", "carl@example.com", "erna@example.com"], LINK
    ).saved
    assert indications.refuse_mails(carl.token)
    make_old()
    assert purge() == "3 addresses erased.\n"
    assert indicators(["ben@example.com"]) == {"ben@example.com": None}
    sign_up(client, "erna")
    assert not Member.objects.filter(user__username="erna").exists()
    found = invite(dora, ["ben@example.com", "carl@example.com"], LINK)
    assert saved(found) == ["ben@example.com"]
    assert found.refused == [Refused("carl@example.com", "unwanted")]
    assert mails.send_due() == 1
    # The old mail says nothing of anybody any more; the new one does.
    assert not indications.refuse_mails(ben.token)
    assert MailRefusal.objects.count() == 1
    assert indications.refuse_mails(found.saved[0].token)
    assert MailRefusal.objects.count() == 2
    # And the same member, too.
    assert saved(indicate(anna, ["erna@example.com"])) == ["erna@example.com"]


def test_what_was_erased_is_shown_to_nobody(anna):
    indicate(anna, ["ben@example.com", "carl@example.com"])
    make_old("ben@example.com")
    purge()
    assert export_user(anna.user)["referrals"]["has_indicated"] == ["carl@example.com"]
    assert forget_user(anna.user)["indications"] == 1


def test_what_is_erased_while_it_is_sent_is_never_due_again(anna, monkeypatch, caplog):
    """Else what cannot be sent would be tried first for ever, and nobody written to any more."""
    invite(anna, ["ben@example.com"], LINK)

    def fail(message, *args, **kwargs):
        make_old()
        purge()
        raise OSError("no route to host")

    with monkeypatch.context() as patched:
        patched.setattr(mail.EmailMessage, "send", fail)
        assert mails.send_due() == 0
    assert "could not be sent" in caplog.text
    assert not EmailIndication.objects.filter(mail_due=True).exists()
    invite(anna, ["carl@example.com"], LINK)
    assert mails.send_due() == 1
    assert [each.to for each in mail.outbox] == [["carl@example.com"]]


def interrupted():
    """Erase five addresses in batches of two, and be ended after the first; return what is left."""
    indicate(make_member(), [f"user{number}@example.com" for number in range(5)])
    make_old()

    def end(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        purge_indications(ago(DAYS), progress=end)
    return len(known())


@pytest.mark.django_db(transaction=True)
def test_it_can_be_ended_at_any_time_and_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(privacy, "BATCH", 2)
    assert interrupted() == 3
    assert purge() == "3 addresses erased.\n"
    assert not known()


@pytest.mark.django_db(transaction=True)
def test_teeth_one_transaction_for_all_is_caught(monkeypatch):
    monkeypatch.setattr(privacy, "BATCH", 2)
    whole = transaction.atomic(purge_indications)
    monkeypatch.setitem(globals(), "purge_indications", whole)
    assert interrupted() == 5


@pytest.mark.django_db(transaction=True)
def test_of_two_that_erase_at_once_each_does_its_own(anna, monkeypatch):
    monkeypatch.setattr(privacy, "BATCH", 3)
    indicate(anna, [f"user{number}@example.com" for number in range(40)])
    make_old()
    assert sum(at_once(4, lambda: purge_indications(ago(DAYS)))) == 40
    assert not known()


@contextmanager
def signing_up(indication, member):
    """Hold the row of an indication by whose address somebody is about to have registered."""
    held, done = threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic():
                EmailIndication.objects.filter(pk=indication.pk).update(
                    member=member, waiting_since=None
                )
                held.set()
                done.wait(30)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    try:
        yield
    finally:
        done.set()
        thread.join()


def purge_beside_a_sign_up(anna):
    names = [f"user{number}@example.com" for number in range(3)]
    found = indicate(anna, names).saved
    make_old()
    limit = {"postgresql": "SET lock_timeout = '1s'", "mysql": "SET innodb_lock_wait_timeout = 1"}
    connection.cursor().execute(limit[connection.vendor])
    try:
        with signing_up(found[1], make_member(anna)):
            return purge_indications(ago(DAYS))
    finally:
        connection.close()


one_writer = pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time")


@one_writer
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("batch", [1, 1000])
def test_who_signs_up_meanwhile_is_not_waited_for_and_keeps_the_address(anna, monkeypatch, batch):
    monkeypatch.setattr(privacy, "BATCH", batch)
    assert purge_beside_a_sign_up(anna) == 2
    assert known() == {"user1@example.com"}
    assert purge() == "0 addresses erased.\n"


@one_writer
@pytest.mark.django_db(transaction=True)
def test_teeth_waiting_for_a_sign_up_is_caught(anna, monkeypatch):
    monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", False)
    monkeypatch.setattr("affiliations.savepoints.TRIES", 1)
    with pytest.raises(OperationalError):
        purge_beside_a_sign_up(anna)


@pytest.mark.django_db(transaction=True)
def test_what_was_noted_before_there_was_a_retention_has_waited_since(client, anna):
    indicate(anna, ["ben@example.com", "carl@example.com", "dora@example.com"])
    sign_up(client, "ben")
    forget_user(sign_up(client, "carl"))
    app = "affiliations_referrals"
    try:
        MigrationExecutor(connection).migrate([(app, "0001_initial")])
    finally:
        call_command("migrate", app, verbosity=0)
    waiting = EmailIndication.objects.exclude(waiting_since=None)
    assert waiting.get().email == "dora@example.com"
    assert waiting.filter(waiting_since=F("created_on")).exists()
