"""The page that leads to a referral program: what is typed in it works, and does what it says."""

import pytest
from django.template import Context, Template
from django.test import RequestFactory

from affiliations.referrals import sharing
from affiliations.referrals.checks import check_settings
from affiliations.referrals.models import Program
from tests.core.factories import make_user
from tests.docs.test_docs import code, run
from tests.referrals.factories import balance, make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def program():
    run("docs/how-to/referrals.md", "program")
    return Program.objects.get()


def test_the_settings_are_right(settings):
    names = run("docs/how-to/referrals.md", "install", INSTALLED_APPS=[])
    assert names["INSTALLED_APPS"] == ["affiliations.rewards", "affiliations.referrals"]
    names |= run("docs/how-to/referrals.md", "billing")
    for name, value in names.items():
        if name.startswith("AFFILIATE_"):
            setattr(settings, name, value)
    # It is the site's own function that is not there.
    assert [each.id for each in check_settings(None)] == ["affiliations_referrals.E010"]
    assert len(run("docs/how-to/referrals.md", "urls")["urlpatterns"]) == 1


def test_a_friend_who_pays_and_is_refunded(program):
    anna = make_member(user=make_user("anna"))
    member = make_member(anna)
    assert (balance(member), balance(anna)) == ((500, 500), (1000, 0))
    run("docs/how-to/referrals.md", "pay", member=member)
    assert (member.paid_minor, balance(anna)) == (5000, (1000, 0))
    names = run("docs/how-to/referrals.md", "pay", member=make_member(anna))
    names["invoices"].pay(names["member"], "A-18", names["Money"].of("10.00", "EUR"))
    assert balance(anna) == (2000, 1000)
    run("docs/how-to/referrals.md", "spend", member=anna, Money=names["Money"])
    assert balance(anna) == (1650, 650)


def test_the_tags(program):
    request = RequestFactory().get("/")
    request.user = make_user("anna")
    shown = Template(code("docs/how-to/referrals.md", "tags")).render(Context({"request": request}))
    assert sharing.member_of(request.user).code in shown
    assert "0 friends have signed up, 0.00 EUR earned." in shown
