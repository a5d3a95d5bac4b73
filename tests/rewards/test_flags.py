"""What is odd is held and says why, and whatever becomes of a flag, no commission is lost."""

import logging
from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from affiliations.models import Conversion, Partner, Subscription, Visitor
from affiliations.money import Money
from affiliations.rewards import flags
from affiliations.rewards.models import Commission, Entry, PartnerNetwork, Review
from affiliations.services import record_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user, make_visitor
from tests.rewards.factories import ORDER, convert, make_rule, total

pytestmark = pytest.mark.django_db

OURS = [f"affiliations.rewards.flags.{name}" for name in flags.__all__]


@pytest.fixture
def use(settings):
    """Use these flags of ours."""

    def used(*names):
        settings.AFFILIATE_FLAGS = tuple(f"affiliations.rewards.flags.{each}" for each in names)

    return used


@pytest.fixture
def partner():
    make_rule(10)
    return make_partner()


def raised():
    return list(Review.objects.order_by("pk").values_list("reason", "detail"))


def test_by_default_nothing_is_held(partner):
    convert(partner)
    assert raised() == []


# After the click


@pytest.mark.parametrize(
    ("seconds", "is_odd"), [(0, True), (4.5, True), (5, False), (-1, True), (-5, False)]
)
def test_what_comes_right_after_the_click(use, settings, partner, seconds, is_odd):
    use("soon_after_click")
    settings.AFFILIATE_FLAG_SECONDS = 5
    Subscription.objects.create(partner=partner, trigger=ORDER)
    with freeze(timezone.now() + timedelta(minutes=1)) as clock:
        visitor = make_visitor(partner)
        clock.tick(seconds=seconds)
        record_conversion(
            trigger=ORDER,
            reference="A-1",
            user=make_user(),
            money=Money(10_000, "EUR"),
            known={visitor.pk: "session"},
        )
    said = f"{abs(seconds):.1f} seconds after the click"
    assert raised() == ([("soon_after_click", said)] if is_odd else [])
    assert Entry.objects.get().minor == 1000


# Velocity


def test_more_conversions_than_a_partner_has(use, settings, partner):
    use("velocity")
    settings.AFFILIATE_FLAG_VELOCITY = (2, timedelta(minutes=10))
    other = make_partner()
    with freeze() as clock:
        for seconds, held in ((0, 0), (60, 0), (540, 0), (1, 1), (1, 2), (600, 2)):
            clock.tick(seconds=seconds)
            convert(partner)
            assert Review.objects.count() == held
        convert(other)
    said = "more than 2 conversions of the partner's within 0:10:00"
    assert raised() == [("velocity", said)] * 2
    assert Entry.objects.count() == 7


# Mail


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@mailinator.com", "mailinator.com"),
        ("A@Mailinator.COM", "mailinator.com"),
        ("a@x.y.mailinator.com", "mailinator.com"),
        ("a@mailinator.com.", "mailinator.com"),
        ("a@sub.trash.example", "trash.example"),
        ("a@nottrash.example", ""),
        ("a@mailinator.com.example", ""),
        ("mailinator.com@shop.example", ""),
        ("a@com", ""),
        ("nobody", ""),
        ("", ""),
    ],
)
def test_mail_that_is_thrown_away(use, settings, partner, address, domain):
    use("disposable_mail")
    settings.AFFILIATE_FLAG_MAIL_DOMAINS = ["trash.example"]
    user = make_user()
    user.email = address
    convert(partner, user=user)
    assert raised() == ([("disposable_mail", f"disposable mail: {domain}")] if domain else [])


def test_whoever_is_unknown_has_no_mail(use, partner):
    use("disposable_mail")
    Subscription.objects.create(partner=partner, trigger=ORDER)
    known = {make_visitor(partner).pk: "session"}
    record_conversion(trigger=ORDER, reference="A-1", known=known, money=Money(100, "EUR"))
    assert Commission.objects.get().minor == 10
    assert raised() == []


def test_the_package_has_more_domains_than_we_do(use, partner):
    domains = pytest.importorskip("disposable_email_domains").blocklist
    assert flags.blocklist is domains
    user = make_user()
    user.email = "a@0-mail.com"
    use("disposable_mail")
    convert(partner, user=user)
    assert raised() == [("disposable_mail", "disposable mail: 0-mail.com")]


# Networks


def shop(partner, address, number="A-1"):
    """Order from an address, through the partner's link."""
    client = Client(REMOTE_ADDR=address)
    client.get("/", {"affiliate_id": partner.uid})
    assert client.post("/order/", {"number": number, "total": "5"}).status_code == 201


def log_in(user, address):
    """Log in from an address."""
    assert Client(REMOTE_ADDR=address).post("/login/", {"username": user.username})


@pytest.fixture
def anna():
    """One of the people of a partner."""
    partner = make_partner({ORDER: ""})
    make_rule(flat_minor=500, currency="EUR")
    user = make_user()
    partner.users.add(user)
    return user


@pytest.mark.parametrize(
    ("home", "address", "is_odd"),
    [
        ("81.2.69.160", "81.2.69.7", True),
        ("81.2.69.160", "::ffff:81.2.69.7", True),
        ("81.2.69.160", "81.2.70.160", False),
        ("2a02:ff0:1:aa::1", "2a02:ff0:1:bb::2", True),
        ("2a02:ff0:1:aa::1", "2a02:ff0:2:aa::1", False),
        # Of a proxy, and of nobody.
        ("10.0.0.1", "10.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("", "", False),
        ("unix:", "unix:", False),
    ],
)
def test_who_comes_from_the_partners_own_network(use, anna, home, address, is_odd):
    use("partner_network")
    log_in(anna, home)
    shop(Partner.objects.get(), address)
    said = [("partner_network", "the network of the partner's own people")]
    assert raised() == (said if is_odd else [])
    assert Entry.objects.count() == 1


def test_no_address_is_kept(use, anna):
    use("partner_network")
    other = make_partner()
    other.users.add(anna)
    log_in(anna, "81.2.69.160")
    shop(Partner.objects.first(), "81.2.69.7")
    kept = [
        *PartnerNetwork.objects.values(),
        *Review.objects.values(),
        *Commission.objects.values(),
    ]
    assert "81.2" not in str(kept)
    # Nor can it be told that two partners have a network in common.
    digests = {each.digest for each in PartnerNetwork.objects.all()}
    assert [len(each) for each in digests] == [64, 64]


def test_a_network_is_noted_once_and_known_for_a_while(use, anna):
    use("partner_network")
    partner = Partner.objects.get()
    with freeze() as clock:
        log_in(anna, "81.2.69.160")
        clock.tick(days=80)
        log_in(anna, "81.2.69.1")
        assert PartnerNetwork.objects.get().seen_on == timezone.now()
        clock.tick(days=89)
        shop(partner, "81.2.69.7", "A-1")
        assert len(raised()) == 1
        clock.tick(days=1)
        shop(partner, "81.2.69.7", "A-2")
        assert len(raised()) == 1
        assert Entry.objects.count() == 2


def test_the_sites_key_may_change(use, settings, anna):
    use("partner_network")
    partner = Partner.objects.get()
    log_in(anna, "81.2.69.160")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = b"another one, \xff and long enough that nobody complains of its length"
    shop(partner, "81.2.69.7", "A-1")
    assert len(raised()) == 1
    settings.SECRET_KEY_FALLBACKS = []
    shop(partner, "81.2.69.7", "A-2")
    assert len(raised()) == 1


def test_nobody_elses_network_is_noted(use, anna):
    use("partner_network")
    log_in(make_user(), "81.2.69.160")
    assert not PartnerNetwork.objects.exists()


@pytest.mark.parametrize("used", [(), OURS[:1], None, 3])
def test_without_the_flag_no_network_is_noted(settings, anna, used):
    settings.AFFILIATE_FLAGS = used
    log_in(anna, "81.2.69.160")
    assert not PartnerNetwork.objects.exists()


def test_a_network_that_cannot_be_noted_keeps_nobody_out(use, anna, monkeypatch, caplog):
    use("partner_network")

    def broken(*args):
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table")

    monkeypatch.setattr(flags, "_digest", broken)
    client = Client(REMOTE_ADDR="81.2.69.160")
    client.post("/login/", {"username": anna.username})
    assert client.get("/whoami/").json()["user"] == anna.username
    assert "network was not noted" in caplog.text


def test_without_a_request_there_is_no_network(use, partner):
    use("partner_network")
    convert(partner)
    assert raised() == []
    assert total(partner) == 1000


def test_old_networks_are_deleted(anna, capsys):
    partner = Partner.objects.get()
    for number, days in enumerate((100, 91, 89)):
        PartnerNetwork.objects.create(
            partner=partner,
            digest=f"{number:064}",
            seen_on=timezone.now() - timedelta(days=days),
        )
    call_command("purge_networks", "--older-than", "90d", "--dry-run")
    assert "2 networks would be deleted" in capsys.readouterr().out
    assert PartnerNetwork.objects.count() == 3
    call_command("purge_networks", "--older-than", "90d")
    assert PartnerNetwork.objects.get().digest == f"{2:064}"
    with pytest.raises(CommandError):
        call_command("purge_networks", "--older-than", "soon")


# A site's own


def raises(commission):
    Visitor.objects.all().update(entry_point="http://changed.example/")
    raise ValueError("of a secret nature")


def breaks_the_query(commission):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM there_is_no_such_table")


def breaks_before_any_query(commission):
    raise KeyError("x")


@pytest.mark.parametrize(
    "broken",
    [
        raises,
        breaks_the_query,
        breaks_before_any_query,
        f"{__name__}.nowhere",
        "tests.core.raises_on_import.flag",
        lambda: "",
    ],
)
def test_a_flag_that_fails_holds_and_loses_nothing(settings, partner, caplog, broken):
    settings.AFFILIATE_FLAGS = (broken, lambda commission: "odd")
    with caplog.at_level(logging.ERROR):
        convert(partner)
    name = flags.name_of(broken)
    assert raised() == [("flag failed", name), ("<lambda>", "odd")]
    assert total(partner) == 1000
    [record] = caplog.records
    assert name in record.getMessage()
    assert record.exc_info
    assert "secret" not in str(raised())
    # What it wrote is undone.
    assert not Visitor.objects.filter(entry_point__contains="changed").exists()


def ends_the_transaction(commission):
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK")
    raise ValueError("as in a deadlock on MariaDB")


@pytest.mark.django_db(transaction=True)
def test_where_the_whole_transaction_is_lost_the_caller_hears_of_it(settings, partner):
    settings.AFFILIATE_FLAGS = (ends_the_transaction,)
    with pytest.raises(ValueError, match="deadlock"), transaction.atomic():
        convert(partner)
    assert not Conversion.objects.exists()
    assert not Review.objects.exists()


def test_teeth_a_flag_outside_of_a_savepoint(settings, partner, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL gives a transaction up for a failed query")
    monkeypatch.setattr(flags.savepoints, "lazy", lambda using: nullcontext())
    settings.AFFILIATE_FLAGS = (breaks_the_query,)
    convert(partner)
    assert total(partner) == 0


def test_flags_of_one_name_are_one_review(settings, partner):
    def odd(commission):
        return "first"

    first = odd

    def odd(commission):
        return "second"

    def Odd(commission):  # noqa: N802
        return "third"

    def approval(commission):
        return "fourth"

    settings.AFFILIATE_APPROVAL = True
    settings.AFFILIATE_FLAGS = (first, odd, Odd, approval, raises, breaks_the_query)
    convert(partner)
    assert raised() == [
        ("approval", "fourth"),
        ("odd", "first; second"),
        ("Odd", "third"),
        ("flag failed", "raises; breaks_the_query"),
    ]


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("x" * 300, "x" * 200),
        ("a\0b", "ab"),
        ("\ud800", "?"),
        ("🦊" * 300, "🦊" * 200),
        (3, "3"),
        (True, "True"),
        (None, ""),
        (0, ""),
    ],
)
def test_whatever_a_flag_answers_can_be_stored(settings, partner, answer, detail):
    def odd(commission):
        return answer

    odd.__name__ = "odd" * 30
    settings.AFFILIATE_FLAGS = (odd,)
    convert(partner)
    assert raised() == ([(("odd" * 30)[:50], detail)] if detail else [])
    assert total(partner) == 1000


def test_a_flag_has_everything_at_hand(settings, shared, django_assert_num_queries):
    make_rule(10)
    seen = []

    def odd(commission):
        with django_assert_num_queries(0):
            seen.append((commission.partner, commission.visitor, commission.conversion.user))
        return ""

    settings.AFFILIATE_FLAGS = (odd,)
    partners = [make_partner(), make_partner()]
    conversion = convert(*partners)
    shares = conversion.shares.select_related("visitor__partner").order_by("pk")
    assert seen == [(each.visitor.partner, each.visitor, conversion.user) for each in shares]


def test_where_nothing_is_earned_nothing_is_asked(settings):
    settings.AFFILIATE_FLAGS = (raises,)
    convert(make_partner())
    assert Commission.objects.get().minor == 0
    assert raised() == []
