"""`python -m dummy_project --check`: it passes, and it finds what is broken."""

import os

import pytest

BREAK = """
import os, sys
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "dummy_project.settings"
django.setup()
from django.conf import settings
from affiliations.models import Partner
from dummy_project import check, seed
from dummy_project.__main__ import main
from dummy_project.partner_site.models import Deal

def afterwards(change):
    prepare = seed.prepare
    seed.prepare = lambda url: [prepare(url), change()]

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
        "afterwards(lambda: Partner.objects.get().subscriptions.update(callback_url=''))",
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
        "check.BROWSER = 'Googlebot/2.1'",
        "✗ 0 visitors in the database instead of 1",
    ),
    "no time": (
        "check.TIDY = check.LIMIT",
        "✗ the time is up",
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
        "Everything holds",
    ):
        assert evidence in done.stdout


@pytest.mark.parametrize("name", BREAKAGES)
def test_it_finds_what_is_broken(python, name):
    breakage, reason = BREAKAGES[name]

    done = python("-c", BREAK.format(breakage=f"check.PATIENCE = 2\n{breakage}"))

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
