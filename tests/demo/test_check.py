"""`python -m dummy_project --check`: it passes, and it finds what is broken."""

import os

import pytest

BREAK = """
import os, sys
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "dummy_project.settings"
django.setup()
from django.conf import settings
from django.db import connection
from affiliations.links.models import Link
from affiliations.models import Partner, Subscription
from affiliations.signals import visitor_identified
from dummy_project import attribution_walk, check, earnings, earnings_walk, experiments_walk
from dummy_project import friends_walk
from dummy_project import network_walk, seed, walk
from dummy_project.__main__ import main
from dummy_project.network.models import Offer
from dummy_project.partner_site.models import Deal

# Nothing is broken about either, and together they take longer than all the rest.
connection.settings_dict["TEST"]["MIGRATE"] = False
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

def afterwards(change):
    prepare = seed.prepare
    seed.prepare = lambda url: (prepare(url), change())

{breakage}
sys.exit(main(["--check"]))
"""

BREAKAGES = {
    "another secret": (
        "afterwards(lambda: Deal.objects.update(secret='whsec_' + 43 * 'A' + '='))",
        "✗ the partner refused it: webhook-signature",
    ),
    "no subscription": (
        "seed.SUBSCRIPTIONS.pop('Order placed')",
        "✗ 0 conversions of 'Order placed' instead of 1",
    ),
    "no callback URL": (
        "afterwards(lambda: Subscription.objects.update(callback_url=''))",
        "✗ no call for 'registration' arrived; the outbox: empty",
    ),
    "no deal": (
        "afterwards(lambda: Partner.objects.update(active=False))",
        "✗ 0 visitors in the database instead of 1",
    ),
    "no middleware": (
        "settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if 'affil' not in each]",
        "answered 200, not 302",
    ),
    "a robot": (
        "walk.BROWSER = 'Googlebot/2.1'",
        "✗ 0 visitors in the database instead of 1",
    ),
    "no time": (
        "check.TIDY = check.LIMIT",
        "✗ the time is up",
    ),
}

#: The same, on the way of the network.
NETWORK_BREAKAGES = {
    "a link deleted": (
        "afterwards(lambda: Link.objects.update(deleted_on='2026-01-01T00:00Z'))",
        "/router/xfghjde45?transaction_id=10",
        "answered 404, not 302",
    ),
    "a gate that stays closed": (
        "settings.AFFILIATE_LINKS_GATE = 'referer'; settings.AFFILIATE_LINKS_REFERERS = ['a.test']",
        "✗ 0 cookies affiliate_ident instead of 1",
    ),
    "a gate that stands open": (
        "settings.AFFILIATE_LINKS_GATE = 'open'",
        "✗ a cookie was set",
    ),
    "another parameter": (
        "settings.AFFILIATE_LINKS_TRANSACTION_KEYS = ['tid']",
        "✗ its network id is ''",
    ),
    "another landing page": (
        "afterwards(lambda: Link.objects.update(landing_page='http://127.0.0.1:1/'))",
        "✗ the router led to http://127.0.0.1:1/, not to http://127.0.0.1:",
    ),
    "nobody acquires": (
        "visitor_identified.disconnect(dispatch_uid='affiliations.links.acquire')",
        "✗ transaction xfghjde45 #1 is that of None",
    ),
    "a key that may only read": (
        "network_walk.SCOPES = ['links:read']",
        "/api/links/acquire answered 401, not 200",
    ),
    "a service fee": (
        "settings.AFFILIATE_LINKS_MINIMUM_SERVICE_FEE = 68",
        "✗ 0 transactions in the database instead of 1",
    ),
    "another token": (
        "afterwards(lambda: Offer.objects.update(security_token='another'))",
        "✗ the network refused it: success=false; err_msg=Invalid security token;",
    ),
    "no token": (
        "afterwards(settings.AFFILIATE_CALLBACK_TOKENS.clear)",
        "✗ no call as approved arrived; it is pending",
    ),
    "another answer": (
        "afterwards(lambda: Link.objects.update(expects='thank you'))",
        " is refused: ",
    ),
    "what was purchased is forgotten": (
        "settings.AFFILIATE_LINKS_PURCHASED = None",
        "✗ it led to http://127.0.0.1:",
    ),
    "nobody is mailed": (
        "settings.AFFILIATE_REFUND_ALERTS = []",
        "✗ no mail with “Subject: Refund: hold the payout of transaction 2”, but ''",
    ),
}


#: The same, on the way of the money.
EARNINGS_BREAKAGES = {
    "no rule": (
        (
            "from affiliations.rewards.models import CommissionRule\n"
            "afterwards(lambda: CommissionRule.objects.update(valid_until='2026-01-01T00:00Z'))"
        ),
        "✗ 0 entries are posted for it instead of 1",
    ),
    "another percentage": (
        "earnings.RULES[1]['percent'] = 9",
        "✗ it has earned 6.12 EUR, not 6.80 EUR",
    ),
    "nothing is held": (
        "from datetime import timedelta; settings.AFFILIATE_HOLD = timedelta(0)",
        "✗ owed and available are (780, 780), not (780, 0)",
    ),
    "what is taken back is not": (
        (
            "from affiliations.signals import conversion_reversed\n"
            "conversion_reversed.disconnect(dispatch_uid='affiliations.rewards.take_back')"
        ),
        "✗ 0 entries take it back instead of 1",
    ),
    "more than the partner has is the least": (
        "settings.AFFILIATE_PAYOUT_MINIMUM = {'EUR': 61}",
        "✗ DoesNotExist: Payout matching query does not exist",
    ),
    "nowhere to pay": (
        (
            "from affiliations.rewards.models import PayoutDestination\n"
            "afterwards(PayoutDestination.objects.all().delete)"
        ),
        "✗ 0 payouts are sent instead of 1",
    ),
    "a snapshot of what never was": (
        (
            "from affiliations.rewards.models import Account, Snapshot\n"
            "sums = {'last_entry': 0, 'total_minor': 1, 'available_minor': 0}\n"
            "afterwards(lambda: Snapshot.objects.create(\n"
            "    account=Account.objects.first(), taken_on='2026-01-01T00:00Z', **sums))"
        ),
        "✗ manage audit_ledger: 1 differs.",
    ),
}


#: The same, on the way of friends.
FRIENDS_BREAKAGES = {
    "no program": (
        (
            "from affiliations.referrals.models import Program\n"
            "afterwards(lambda: Program.objects.update(active=False))"
        ),
        "/friends/ answered 404, not 200",
    ),
    "nobody joins": (
        (
            "from django.contrib.auth.models import User\n"
            "from django.db.models.signals import post_save\n"
            "post_save.disconnect(sender=User, dispatch_uid='affiliations.referrals.join')"
        ),
        "✗ DoesNotExist: Member matching query does not exist",
    ),
    "a target too far": (
        "seed.FRIENDS['target_minor'] = 79_00",
        "has (1000, 0), not (1000, 1000)",
    ),
    "a billing system elsewhere": (
        (
            "from affiliations.referrals.conf import settings as referrals\n"
            "elsewhere = {'REFERRALS_BILLING_URL': 'http://127.0.0.1:1/{user_hash}'}\n"
            "afterwards(lambda: vars(referrals).update(elsewhere))"
        ),
        "✗ 0 calls arrived instead of 2",
    ),
}


#: The same, on the way of the models.
ATTRIBUTION_BREAKAGES = {
    "nobody looks back": (
        (
            "from datetime import timedelta\n"
            "settings.AFFILIATE_ATTRIBUTION_LOOKBACK = timedelta(microseconds=1)"
        ),
        "✗ by first it is {}",
    ),
    "other ends": (
        "settings.AFFILIATE_ATTRIBUTION_POSITION = (0.3, 0.3)",
        "✗ by position_based it is {",
    ),
}
EXPERIMENTS_BREAKAGES = {
    "nothing is told": (
        (
            "from affiliations.experiments import views\n"
            "views._shown = lambda *args: '{\"campaigns\": []}'"
        ),
        "✗ the client is told {}",
    ),
    "nothing is seen": (
        (
            "from affiliations.experiments import exposures\n"
            "exposures.record = lambda *args, **named: 0"
        ),
        "✗ nobody has seen it",
    ),
    "nothing is written": (
        (
            "from affiliations.experiments.acknowledging import Acknowledged\n"
            "Acknowledged.close = lambda self: None"
        ),
        "✗ the screen is not written",
    ),
}


def test_it_passes_and_shows_its_evidence(python):
    done = python("-m", "dummy_project", "--check")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "✗" not in done.stdout
    for evidence in (
        "→ 302, Location: /products/rain-teapot/?sub1=teapot",
        "Cache-Control: private, no-store",
        "conversion 2: Order placed",
        "webhook-signature: v1,",
        "shows 2 verified calls",
        "successful_on 20",
        "delivered, attempt 1, 204",
        "billing: acquired_credit of -10.00 EUR to ",
        # The ten steps of the network's way, and what is beyond them.
        "302\n  ✓ the network's transaction: 10",
        "/router/xfghjde45?transaction_id=10",
        "Set-Cookie: affiliate_ident=",
        "transaction xfghjde45 #1: open, item rain-teapot, ident ",
        "/products/rain-teapot/, without the network's parameters",
        "POST /api/links/acquire → {'acquired': 1, 'fulfilled': 0}",
        "transaction WTY76R #2, the most recent one: completed, 68.00 EUR",
        "POST /api/links/complete, for the same order → {'completed': True, 'transaction': 2}",
        "conversion_unique_id=WTY76R-2&security_token=***\n  ✓ success=true;",
        "transaction xfghjde45 #1: fulfilled, pays nothing out",
        "/api/links/list → 401 without a key",
        "'item_id': 'dusk-cup', 'floor_price': '12.50'}",
        "no transaction, no cookie",
        "security_token=***&status=rejected\n  ✓ success=true;",
        "Subject: Refund: hold the payout of transaction 2, to thomas@harbour-kiln.example",
        # What the partner is paid in the end.
        "6.80 EUR for Blog of Anna (EUR)",
        "says “earned <strong>",
        "-6.80 EUR, which reverses entry ",
        "a second run drafts nothing",
        "-paypal-1.csv: anna@blog-of-anna.example,60.00,EUR,",
        "manage audit_ledger: Nothing differs.",
        # By whom it was earned.
        "goes by ",
        "first: paid search 18.00 EUR, affiliate 0.00 EUR, email 0.00 EUR",
        "position based: affiliate 7.20 EUR, paid search 7.20 EUR, email 3.60 EUR",
        "draws “paid search: Last touch 0.00, First touch 2.00, Linear 0.67, Position 0.80”",
        # Two buttons.
        "”, and does so again",
        "campaigns/?sendContextEvent=false → 200, order-button: “",
        "bucket ",
        "/results/?goal=event%3Apurchase → 200: “Too early to say”",
        "Everything holds",
    ):
        assert evidence in done.stdout


@pytest.mark.once
@pytest.mark.parametrize("name", BREAKAGES)
def test_it_finds_what_is_broken(python, name):
    breakage, reason = BREAKAGES[name]

    done = python("-c", BREAK.format(breakage=f"walk.PATIENCE = 2\n{breakage}"))

    assert done.returncode == 1, done.stdout + done.stderr
    assert reason in done.stdout
    assert "It does not hold" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.once
@pytest.mark.parametrize("name", NETWORK_BREAKAGES)
def test_it_finds_what_is_broken_at_the_network(python, name):
    breakage, *reasons = NETWORK_BREAKAGES[name]
    alone = "check.WALKS = [network_walk.NetworkWalk]; walk.PATIENCE = 2"

    done = python("-c", BREAK.format(breakage=f"{alone}\n{breakage}"))

    assert done.returncode == 1, done.stdout + done.stderr
    for reason in reasons:
        assert reason in done.stdout
    assert "It does not hold" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.once
@pytest.mark.parametrize(
    ("walk", "breakage", "reason"),
    [
        pytest.param(f"{walk}_walk.{walk.capitalize()}Walk", *broken, id=f"{walk}-{name}")
        for walk, breakages in (
            ("earnings", EARNINGS_BREAKAGES),
            ("friends", FRIENDS_BREAKAGES),
            ("attribution", ATTRIBUTION_BREAKAGES),
            ("experiments", EXPERIMENTS_BREAKAGES),
        )
        for name, broken in breakages.items()
    ],
)
def test_it_finds_what_is_broken_with_the_money(python, walk, breakage, reason):
    alone = f"check.WALKS = [{walk}]; walk.PATIENCE = 2"

    done = python("-c", BREAK.format(breakage=f"{alone}\n{breakage}"))

    assert done.returncode == 1, done.stdout + done.stderr
    assert reason in done.stdout
    assert "It does not hold" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.skipif("DATABASE_URL" in os.environ, reason="would leave a database behind")
def test_it_ends_where_no_step_comes_to_an_end(python, tmp_path):
    hang = "check.LIMIT = 2\ncheck.seed.prepare = lambda url: __import__('time').sleep(60)"

    done = python("-c", BREAK.format(breakage=hang), TMPDIR=str(tmp_path))

    assert done.returncode == 1
    assert "It took longer than 2 s." in done.stderr
