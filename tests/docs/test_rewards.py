"""The pages about rewards: their examples are right, and all that is typed in them works."""

import doctest
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.management import call_command, get_commands, load_command_class
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from affiliations.exceptions import InvalidTransition
from affiliations.models import Conversion
from affiliations.money import Money
from affiliations.rewards import flags, ledger, payouts, protection, receivers, signals
from affiliations.rewards.audit import Difference
from affiliations.rewards.exceptions import InsufficientBalance
from affiliations.rewards.explaining import explain
from affiliations.rewards.models import Commission, CommissionRule, Entry, Payout, Review
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from affiliations.triggers import complete_trigger
from tests.core.factories import make_partner, make_user, make_visitor
from tests.docs.test_docs import DOCS, capitals, code, quoted, rows, run, text

HOW_TO = DOCS / "how-to" / "rewards.md"
MANAGE = re.compile(r"manage\.py (.+?)(?:\s+#.*)?$", re.MULTILINE)


def typed(source):
    """Return the commands that a block has, as lists of words."""
    return [shlex.split(line) for line in MANAGE.findall(source)]


def manage(source):
    """Run the commands of a block, and return what they say."""
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        for words in typed(source):
            call_command(*words)
    return out.getvalue()


def said_after(name):
    """Return what the page says that a block prints: the block behind it."""
    [shown] = re.findall(
        rf"<!-- test: {name} -->\n```\w+\n.*?\n```\n+```text\n(.*?)\n```", text(HOW_TO), re.DOTALL
    )
    return shown.splitlines()


def same(lines):
    """Return lines without what differs from run to run, and however far apart their words are."""
    return [re.sub(r"\(\d+\)|rule \d+", "N", " ".join(line.split())) for line in lines if line]


@pytest.fixture(autouse=True)
def earning(without_rewards, db):
    """Let conversions earn, as they do where the app is installed; and see that all of it sums."""
    receivers.connect()
    yield
    receivers.disconnect()
    assert_ledger_balanced()


@pytest.fixture
def clock():
    with freeze(datetime(2026, 11, 28, 14, 3, tzinfo=UTC)) as clock:
        yield clock


@pytest.fixture
def anna():
    return make_partner({"Order placed": "", "User registered": ""}, name="Anna", uid="WTY76RkB")


def buy(partner, amount="49.90", number="A-1", currency="EUR", **fields):
    """Return the conversion of an order by somebody whom the partner has sent."""
    user = make_user()
    make_visitor(partner, user=user, **fields)
    return complete_trigger(
        None, "Order placed", user=user, amount=amount, currency=currency, reference=number
    )


def available(account):
    return ledger.balance(account).available


# The explanation


def test_the_worked_examples_are_what_the_software_answers():
    failed, tried = doctest.testfile(
        str(DOCS / "explanation" / "rewards.md"), module_relative=False
    )
    assert (failed, tried) == (0, 22)


# From the settings to the first payout, as the page goes


def test_what_is_installed():
    names = run("docs/how-to/rewards.md", "install", INSTALLED_APPS=[])
    assert names["INSTALLED_APPS"] == ["affiliations.rewards"]
    with override_settings(AFFILIATE_HOLD=None):
        assert found_wrong() == ["affiliations_rewards.E001"]
    del names["INSTALLED_APPS"]
    with override_settings(**capitals(names)):
        assert found_wrong() == []
    assert "no issues" in manage(code("docs/how-to/rewards.md", "migrate"))


def found_wrong():
    return [each.id for each in run_checks() if each.id.startswith("affiliations_rewards.")]


def test_what_came_before_the_rule_earns_nothing(clock, anna):
    run("docs/how-to/rewards.md", "rule")
    clock.tick(seconds=9)
    early = buy(anna)
    assert not Entry.objects.exists()
    assert "no rule held" in explain(early)
    clock.tick(seconds=1)
    assert Commission.objects.get(conversion=buy(anna, number="A-2")).minor == 499


def test_from_the_rule_to_the_first_payout(clock, anna, tmp_path, capsys, settings):
    names = run("docs/how-to/rewards.md", "install", INSTALLED_APPS=[], partner=anna)
    settings.AFFILIATE_PAYOUT_MINIMUM = names["AFFILIATE_PAYOUT_MINIMUM"]
    names = run("docs/how-to/rewards.md", "rule", **names)
    clock.tick(seconds=10)
    conversion = buy(anna)
    names = run("docs/how-to/rewards.md", "look", **names)
    assert names["conversion"] == conversion
    assert same(capsys.readouterr().out.splitlines()) == same(said_after("look"))
    account = names["account"]

    names = run("docs/how-to/rewards.md", "replace", **names)
    shown = manage(code("docs/how-to/rewards.md", "replay")).splitlines()
    assert same(shown) == same(said_after("replay"))
    one = f"{code('docs/how-to/rewards.md', 'replay')} --rule {names['draft'].pk}"
    assert manage(one).splitlines() == shown
    run("docs/how-to/rewards.md", "publish", **names)
    clock.tick(seconds=10)
    assert Commission.objects.get(conversion=buy(anna, number="A-2")).minor == 599

    names = run("docs/how-to/rewards.md", "refund", **names)
    assert [each.minor for each in account.entries.order_by("pk")] == [499, 599, -100, -399]
    buy(anna, "365.92", number="A-3")
    clock.tick(days=30)
    assert ledger.balance(account) == (4990, 4990, "EUR")

    names = run("docs/how-to/rewards.md", "destination", **names)
    said = manage(code("docs/how-to/rewards.md", "draft")).splitlines()
    assert same(said) == same(said_after("draft"))
    assert available(account) == 0
    names = run("docs/how-to/rewards.md", "pay", directory=tmp_path, **names)
    [file] = tmp_path.iterdir()
    payout = Payout.objects.get()
    line = file.read_text().strip().split(",")
    assert line[:4] == ["anna@blog.example", "49.90", "EUR", payout.reference]
    names["answer"] = tmp_path / "answer.csv"
    heading = "Customer ID,Status,Transaction ID"
    names["answer"].write_text(f"{heading}\n{payout.reference},Gone,77\n")
    run("docs/how-to/rewards.md", "results", **names)
    assert capsys.readouterr().out == "Line 2: status: “Gone” is none that is known.\n"
    names["answer"].write_text(f"{heading}\n{payout.reference},Completed,77\n")
    run("docs/how-to/rewards.md", "results", **names)
    assert f"# {capsys.readouterr().out}" in code("docs/how-to/rewards.md", "results")
    payout.refresh_from_db()
    assert (payout.state, payout.provider_reference) == ("paid", "77")
    # What is refunded now is owed by Anna, and taken off her next payout.
    reverse_conversion(Conversion.objects.get(reference="A-3"))
    assert available(account) == 599 - 4990


def test_a_payout_by_hand_and_one_that_came_back(anna, settings):
    settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 20}
    account = ledger.account_of(anna, "EUR")
    ledger.post(account, Money.of("60", "EUR"), kind="credit", key="k")
    payout = payouts.make_payouts(currency="EUR").payouts.get()
    names = {"payouts": payouts, "payout": payout}
    run("docs/how-to/rewards.md", "by-hand", **names)
    assert (payout.state, payout.provider_reference) == ("paid", "SEPA-4711")
    with pytest.raises(InvalidTransition):
        run("docs/how-to/rewards.md", "by-hand", **names)
    assert available(account) == 0
    run("docs/how-to/rewards.md", "came-back", **names)
    with pytest.raises(InvalidTransition):
        run("docs/how-to/rewards.md", "came-back", **names)
    assert available(account) == 6000
    other = payouts.make_payouts(currency="EUR").payouts.get()
    payouts.fail(other, "account closed")
    assert available(account) == 6000


# Rules


def test_the_other_kinds_of_rules(clock, anna):
    names = run("docs/how-to/rewards.md", "rule", partner=anna)
    run("docs/how-to/rewards.md", "kinds", **names)
    clock.tick(seconds=10)
    other = make_partner({"Order placed": "", "User registered": ""})
    assert earned(buy(other, "100")) == 1000
    user = make_user()
    make_visitor(other, user=user)
    assert earned(complete_trigger(None, "User registered", user=user)) == 500
    # Anna's own rule before her group's: 20 %, of orders from 20 euros on, up to 1,000 in a month.
    assert earned(buy(anna, "100", number="A-2")) == 2000
    assert earned(buy(anna, "19.99", number="A-3")) == 200
    assert earned(buy(anna, "10000", number="A-4")) == 98000
    CommissionRule.objects.filter(name="Anna").update(valid_until=timezone.now())
    # The tiers count what her group's rule has paid, so the second order is the 51st in one go.
    assert earned(buy(anna, "100", number="A-5")) == 1000
    rule = CommissionRule.objects.get(name="Magazines")
    CommissionRule.objects.filter(pk=rule.pk).update(tiers=[[2, "12"], [4, "15"]])
    assert [earned(buy(anna, "100", number=f"B-{number}")) for number in range(3)] == [
        1200,
        1200,
        1500,
    ]
    assert earned(buy(anna, "1000", number="B-9")) == 5000


def earned(conversion):
    return Commission.objects.get(conversion=conversion).minor


# Reviews and flags


def test_approval(anna, settings):
    settings.AFFILIATE_APPROVAL = True
    CommissionRule.objects.create(name="R", percent=10, published_on=timezone.now())
    small, large = buy(anna, "100"), buy(anna, "1000", number="A-2")
    run("docs/how-to/rewards.md", "review", user=make_user())
    outcomes = Review.objects.values_list("entry__commission__conversion", "outcome")
    assert dict(outcomes) == {small.pk: "released", large.pk: "rejected"}
    assert ledger.balance(ledger.account_of(anna, "EUR")).total == 1000


def test_the_flags_are_those_of_the_code():
    names = run("docs/how-to/rewards.md", "install", INSTALLED_APPS=[])
    names = run("docs/how-to/rewards.md", "flags", **names)
    ours = [path for path in names["AFFILIATE_FLAGS"] if path.startswith("affiliations.")]
    assert sorted(path.rpartition(".")[2] for path in ours) == flags.__all__
    shown = [quoted(cells[0])[0] for cells in rows(HOW_TO)[1:]]
    assert sorted(shown) == flags.__all__
    large_order = run("docs/how-to/rewards.md", "flag")["large_order"]
    names["AFFILIATE_FLAGS"] = [*ours, large_order]
    del names["INSTALLED_APPS"]
    with override_settings(**capitals(names)):
        assert found_wrong() == []


def test_a_flag_of_ones_own(anna, settings):
    CommissionRule.objects.create(name="R", percent=10, published_on=timezone.now())
    settings.AFFILIATE_FLAGS = [run("docs/how-to/rewards.md", "flag")["large_order"]]
    buy(anna, "999.99")
    buy(anna, "1000", currency="USD", number="A-2")
    assert not Review.objects.exists()
    buy(anna, "1000", number="A-3")
    review = Review.objects.get()
    assert (review.reason, review.detail) == ("large_order", "an order of 1,000 euros or more")
    settings.AFFILIATE_FLAGS = [fails]
    buy(anna, "1", number="A-4")
    assert f"*{Review.objects.latest('pk').reason}*" in text(HOW_TO)


def fails(commission):
    raise RuntimeError("a flag that fails")


# Credits, signals, tests, and other systems


def test_credits_of_others(capsys):
    names = run("docs/how-to/rewards.md", "credits")
    assert capsys.readouterr().out == "150\n"
    run("docs/how-to/rewards.md", "credits")
    assert capsys.readouterr().out == "150\n"
    with pytest.raises(InsufficientBalance), transaction.atomic():
        ledger.spend(names["account"], Money(151, "EUR"), key="order:A-18")


def test_the_rule_of_the_readme(clock, anna):
    run("README.md", "rule")
    clock.tick(seconds=10)
    assert earned(buy(anna)) == 499


def test_a_receiver_of_a_signal(anna, caplog, django_capture_on_commit_callbacks):
    receiver = run("docs/how-to/rewards.md", "signal")["tell_of_failures"]
    account = ledger.account_of(anna, "EUR")
    ledger.post(account, Money.of("60", "EUR"), kind="credit", key="k")
    payout = payouts.make_payouts(currency="EUR").payouts.get()
    try:
        with django_capture_on_commit_callbacks() as waiting:
            payouts.fail(payout, "account closed")
    finally:
        signals.payout_settled.disconnect(receiver)
    assert not caplog.messages
    [say] = waiting
    say()
    assert caplog.messages == [f"Payout {payout.reference} of 60.00 EUR failed: account closed"]


def test_the_signals_are_sent_with_what_the_reference_says(anna):
    CommissionRule.objects.create(name="R", percent=10, published_on=timezone.now())
    seen = {}

    def note(name):
        def receiver(sender, signal, **arguments):
            seen[name] = (sender.__name__, set(arguments))

        return receiver

    noted = {name: note(name) for name in signals.__all__}
    for name, each in noted.items():
        getattr(signals, name).connect(each)
    try:
        buy(anna)
        posted = dict(seen)
        ledger.post(ledger.account_of(anna, "EUR"), Money(6000, "EUR"), kind="credit", key="k")
        payouts.fail(payouts.make_payouts(currency="EUR").payouts.get(), "account closed")
    finally:
        for name, each in noted.items():
            getattr(signals, name).disconnect(each)
    assert posted.keys() == {"entry_posted"}
    assert seen == {
        quoted(cells[0])[0]: (quoted(cells[1])[0], set(quoted(cells[2])))
        for cells in rows(DOCS / "reference" / "rewards.md")
        if quoted(cells[0])[:1] and quoted(cells[0])[0] in signals.__all__
    }


def test_the_test_that_is_shown(client, anna, settings):
    settings.AFFILIATE_TRIGGERS = run("docs/how-to/triggers.md", "trigger")["AFFILIATE_TRIGGERS"]
    run("docs/how-to/rewards.md", "tests")["test_an_order_earns_a_tenth"](client, anna)


def test_what_was_owed_by_another_system(anna):
    names = {"account_of": ledger.account_of, "post": ledger.post, "Money": Money}
    run("docs/how-to/rewards.md", "opening", partner=anna, **names)
    assert available(ledger.account_of(anna, "EUR")) == 21340


def test_off_and_on_again(anna):
    CommissionRule.objects.create(name="R", percent=10, published_on=timezone.now())
    receivers.disconnect()
    conversion = buy(anna)
    receivers.connect()
    assert "audit_ledger" in explain(conversion)
    said = manage(code("docs/how-to/rewards.md", "post-missing"))
    assert "1 were posted." in said
    assert earned(conversion) == 499


@pytest.mark.parametrize("page", ["rewards", "operate"])
def test_each_command_that_is_typed_is_one(page):
    for name, *arguments in typed(text(DOCS / "how-to" / f"{page}.md").replace("`", "\n")):
        command = load_command_class(get_commands()[name], name)
        command.create_parser("manage.py", name).parse_args(arguments)


def test_what_cron_runs_works(anna):
    assert "snapshots taken" in manage(code("docs/how-to/rewards.md", "cron"))


# The page about how it is operated


def test_what_to_watch(anna):
    CommissionRule.objects.create(name="R", percent=10, published_on=timezone.now())
    with override_settings(AFFILIATE_APPROVAL=True):
        buy(anna)
        buy(anna, number="A-2")
    account = ledger.account_of(anna, "EUR")
    ledger.post(account, Money.of("60", "EUR"), kind="credit", key="k")
    payout = payouts.make_payouts(currency="EUR").payouts.get()
    payouts.mark_sent(payouts.approve(payout))
    found = run("docs/how-to/operate.md", "watch-rewards")
    assert (found["reviews"], found["sent"]) == (0, 0)
    before = timezone.now() - timedelta(days=8)
    Review.objects.filter(pk=Review.objects.first().pk).update(opened_on=before)
    Payout.objects.update(sent_on=before)
    found = run("docs/how-to/operate.md", "watch-rewards")
    assert (found["reviews"], found["sent"]) == (1, 1)


def test_each_kind_of_a_difference_is_explained():
    in_code = set(re.findall(r'"([a-z]+)"', Difference.__doc__))
    table = rows(DOCS / "how-to" / "operate.md")
    shown = [kind for cells in table if len(cells) == 3 for kind in quoted(cells[0])]
    assert sorted(shown) == sorted(in_code)


def test_the_tables_that_are_kept_from_change_are_named():
    page = text(DOCS / "how-to" / "operate.md")
    assert "`affiliations_rewards.W011`" in page
    for table in protection.TABLES:
        assert f"`{table}`" in page


# The page for staff


def test_staff_read_the_words_that_the_pages_have():
    package = DOCS.parent / "affiliations"
    files = [each for kind in ("*.py", "*.html") for each in sorted(package.rglob(kind))]
    written = plain("".join(map(text, files)))
    section = plain(text(DOCS / "how-to" / "staff.md").partition("\n## Rewards\n")[2])
    # What ends in a full stop is no label, but what a paragraph begins with.
    labels = [each for each in re.findall(r"\*{1,2}([^*]+?)\*{1,2}", section) if each[-1] != "."]
    assert len(labels) > 50
    for label in set(labels) - {"add commission rule"}:
        form = ".{1,30}".join(map(re.escape, label.split("…"))) if label[-1] != "…" else label
        assert re.search(form, written), label


def plain(source):
    return " ".join(source.split()).lower().replace("’", "'")
