"""The admin of commission rules and partner groups: forms, publishing, and who may do what."""

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from affiliations.admin.amounts import amount
from affiliations.admin.fields import minor_of
from affiliations.money import DECIMAL_PLACES, Money
from affiliations.rewards import rules
from affiliations.rewards.admin import rules as rules_admin
from affiliations.rewards.admin import wording
from affiliations.rewards.admin.rule_forms import RuleForm
from affiliations.rewards.models import CommissionRule, PartnerGroup
from affiliations.rewards.models.rules import SUMS
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user
from tests.rewards.factories import ORDER, convert, make_group, make_rule

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"
#: No break between a number and its unit.
NBSP = "\N{NO-BREAK SPACE}"


def address(name, *args):
    return reverse(f"admin:affiliations_rewards_{name}", args=args)


def page(client, name, /, *args, **query):
    response = client.get(address(name, *args), query)
    assert response.status_code == 200, (name, args, query)
    return response.content.decode()


def words(text):
    """Return what a page says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def act(client, action, *rows, **more):
    data = {"action": action, "_selected_action": [row.pk for row in rows], "index": 0, **more}
    return client.post(address("commissionrule_changelist"), data, follow=True)


def confirm(client, action, rule):
    """Press a button on a rule's page, and then the one on the page that asks."""
    asked = act(client, action, rule)
    return answer(client, action, rule, asked)


def answer(client, action, rule, asked):
    seen = re.search(r'name="seen" value="(\w+)"', asked.content.decode())
    more = {"seen": seen[1]} if seen else {}
    return act(client, action, rule, confirmed="yes", **more)


def told(response):
    return [str(message).replace(NBSP, " ") for message in response.context["messages"]]


def listed(client, **query):
    """Return the names that the list shows."""
    text = page(client, "commissionrule_changelist", **query)
    found = re.findall(r'field-name"><a href="[^"]*">([^<]+)<', text)
    return sorted(map(unescape, found))


def form(*tiers, **fields):
    """Return what the browser sends for a rule."""
    rows = {}
    for row in range(5):
        start, rate = tiers[row] if row < len(tiers) else ("", "")
        rows |= {f"tiers_{row}_start": start, f"tiers_{row}_rate": rate}
    return {
        "name": "Spring",
        "partner": "",
        "group": "",
        "trigger": "",
        "percent": "10",
        "flat_minor": "",
        "currency": "",
        "tiers_by": "count",
        "period": "month",
        "minimum_minor": "",
        "cap_minor": "",
        "period_cap_minor": "",
        "times": "",
        "months": "",
        "priority": "0",
        "valid_from": "",
        "valid_until": "",
        **rows,
        **fields,
    }


def add(client, *tiers, **fields):
    return client.post(address("commissionrule_add"), form(*tiers, **fields), follow=True)


def errors(response):
    assert response.status_code == 200
    found = response.context["adminform"].form.errors
    return {name: [unescape(each) for each in said] for name, said in found.items()}


def staff_with(client, *codenames):
    """Log somebody in who may do this and nothing else."""
    user = make_user()
    user.is_staff = True
    user.save()
    user.user_permissions.set(
        Permission.objects.filter(
            content_type__app_label="affiliations_rewards", codename__in=codenames
        )
    )
    client.force_login(user)
    return client


def draft(percent=None, **fields):
    return make_rule(percent, published_on=None, **fields)


def stored(rule):
    return CommissionRule.objects.get(pk=rule.pk)


class TestForm:
    def test_a_percentage_is_enough_and_the_page_says_what_it_pays(self, admin_client):
        response = add(admin_client)
        rule = CommissionRule.objects.get()
        assert response.redirect_chain == [(address("commissionrule_change", rule.pk), 302)]
        assert told(response) == ["The draft was saved. It pays nothing before it is published."]
        assert (rule.percent, rule.currency, rule.tiers) == (10, "", [])
        assert not rule.is_published
        said = words(response.content.decode())
        assert "100.00 EUR 10.00 EUR" in said
        assert "Likewise in any other currency." in said
        assert LogEntry.objects.get().action_flag == ADDITION

    def test_everything_that_can_be_said(self, admin_client):
        partner = make_partner()
        response = add(
            admin_client,
            ("1000", "6.5"),
            ("2500.500", "7"),
            partner=partner.pk,
            trigger=ORDER,
            percent="",
            flat_minor="5.25",
            currency="KWD",
            tiers_by="amount",
            period="year",
            minimum_minor="20",
            cap_minor="30.001",
            period_cap_minor="1000",
            times="3",
            months="12",
            priority="-2",
            valid_from="2027-03-01T10:00",
            valid_until="2027-06-01",
        )
        rule = CommissionRule.objects.get()
        assert (rule.partner, rule.trigger) == (partner, ORDER)
        assert (rule.percent, rule.flat_minor, rule.currency) == (None, 5250, "KWD")
        assert rule.tiers == [[1_000_000, 6500], [2_500_500, 7000]]
        assert (rule.tiers_by, rule.period) == ("amount", "year")
        assert (rule.minimum_minor, rule.cap_minor, rule.period_cap_minor) == (
            20_000,
            30_001,
            1_000_000,
        )
        assert (rule.times, rule.months, rule.priority) == (3, 12, -2)
        assert timezone.localtime(rule.valid_from).hour == 10
        text = response.content.decode()
        for name, value in [("flat_minor", "5.250"), ("cap_minor", "30.001")]:
            assert re.search(rf'name="{name}" value="{value}"', text), name
        assert 'name="tiers_1_start" id="id_tiers_1_start" value="2500.500"' in text
        assert 'name="tiers_1_rate" id="id_tiers_1_rate" value="7.000"' in text

    def test_what_a_page_shows_can_be_saved_as_it_is(self, admin_client):
        add(
            admin_client, ("10", "12.5"), ("50", "15"), percent="7.5", cap_minor="9", currency="EUR"
        )
        rule = CommissionRule.objects.get()
        before = vars(rule).copy()
        shown = admin_client.get(address("commissionrule_change", rule.pk))
        typed = typed_in(shown.content.decode())
        response = admin_client.post(address("commissionrule_change", rule.pk), typed, follow=True)
        assert response.redirect_chain, response.context["adminform"].form.errors
        after = vars(stored(rule))
        assert {**before, "_state": 0} == {**after, "_state": 0}
        assert LogEntry.objects.latest("pk").change_message == "[]"

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("name", "", "required"),
            ("name", "x" * 251, "at most 250"),
            ("name", "a\0b", "Null characters"),
            ("partner", "99", "not one of the available choices"),
            ("partner", "x", "not one of the available choices"),
            ("group", "99", "not one of the available choices"),
            ("group", "1e9", "not one of the available choices"),
            ("group", "9" * 40, "not one of the available choices"),
            ("trigger", "Nothing", "not one of the available choices"),
            ("percent", "", "either a percentage or a flat sum"),
            ("percent", "101", "less than or equal to 100"),
            ("percent", "-1", "greater than or equal to 0"),
            ("percent", "NaN", "Enter a number"),
            ("percent", "10.12345", "4 decimal places"),
            ("percent", "1" * 40, "7 digits"),
            ("flat_minor", "5", "either a percentage or a flat sum"),
            ("currency", "ABC", "not one of the available choices"),
            ("tiers_by", "weight", "not one of the available choices"),
            ("period", "day", "not one of the available choices"),
            *(
                (name, value, said)
                for name in ("minimum_minor", "cap_minor", "period_cap_minor")
                for value, said in [
                    ("12.345", "EUR has 2 decimal places, not more."),
                    ("-1", "greater than or equal to 0"),
                    ("NaN", "Enter a number"),
                    ("Infinity", "Enter a number"),
                    ("1e400", "Is too large."),
                    ("1" * 40, "Is too large."),
                    ("92233720368547758.08", "Is too large."),
                    ("9" * 5000, "Is too large."),
                    ("twelve", "Enter a number"),
                ]
            ),
            ("times", "0", "greater than or equal to 1"),
            ("times", "1.5", "whole number"),
            ("times", "9" * 40, "less than or equal to"),
            ("months", "1201", "less than or equal to 1200"),
            ("priority", "x", "whole number"),
            ("priority", "9" * 40, "less than or equal to"),
            ("valid_from", "yesterday", "Must be a date"),
            ("valid_until", "99999-01-01", "Must be a date"),
        ],
    )
    def test_what_is_wrong_stands_once_at_its_field(self, admin_client, field, value, said):
        # What contradicts itself is told at the first of both.
        where = "percent" if field == "flat_minor" else field
        found = errors(add(admin_client, **{"currency": "EUR", field: value}))
        assert list(found) == [where]
        assert len(found[where]) == 1
        assert said in found[where][0]
        assert not CommissionRule.objects.exists()

    @pytest.mark.parametrize("value", ["-1", "NaN", "sNaN", "1e400", "1" * 40, "12.345"])
    def test_a_flat_sum_that_is_none_is_told_of_alone(self, admin_client, value):
        found = errors(add(admin_client, percent="", flat_minor=value, currency="EUR"))
        assert list(found) == ["flat_minor"]
        assert len(found["flat_minor"]) == 1

    @pytest.mark.parametrize(
        "fields",
        [
            {"percent": "", "flat_minor": "5"},
            {"minimum_minor": "5"},
            {"cap_minor": "5"},
            {"period_cap_minor": "5"},
        ],
    )
    def test_a_sum_has_a_currency(self, admin_client, fields):
        found = errors(add(admin_client, **fields))
        assert found == {"currency": ["There are sums in the rule: in which currency?"]}

    @pytest.mark.parametrize(
        ("tier", "fields", "said"),
        [
            (("", "5"), {}, "Tier 1: Both numbers are needed."),
            (("5", ""), {}, "Tier 1: Both numbers are needed."),
            (("x", "5"), {}, "Tier 1: Enter a number."),
            (("NaN", "5"), {}, "Tier 1: Enter a number."),
            (("-5", "5"), {}, "Tier 1: Ensure this value is greater than or equal to 0."),
            (("1.5", "5"), {}, "Tier 1: Conversions are counted in whole numbers."),
            (("1" * 40, "5"), {}, "Tier 1: Is too large."),
            (("1e400", "5"), {}, "Tier 1: Is too large."),
            (("0", "5"), {}, "The starts must be above zero and grow from tier to tier."),
            (("5", "101"), {}, "Tier 1: No more than 100 % can be paid."),
            (("5", "1" * 40), {}, "Tier 1: No more than 100 % can be paid."),
            (("5", "5.00001"), {}, "Tier 1: Ensure that there are no more than 4 decimal places."),
            (
                ("5.001", "5"),
                {"tiers_by": "amount", "currency": "EUR"},
                "Tier 1: EUR has 2 decimal places, not more.",
            ),
            (
                ("1" * 40, "5"),
                {"tiers_by": "amount", "currency": "EUR"},
                "Tier 1: Is too large.",
            ),
            (
                ("5", "5.5"),
                {"percent": "", "flat_minor": "5", "currency": "JPY"},
                "Tier 1: JPY has 0 decimal places, not more.",
            ),
        ],
    )
    def test_what_is_wrong_with_a_tier_names_it(self, admin_client, tier, fields, said):
        assert errors(add(admin_client, tier, **fields)) == {"tiers": [said]}
        assert not CommissionRule.objects.exists()

    def test_tiers_grow(self, admin_client):
        said = "The starts must be above zero and grow from tier to tier."
        assert errors(add(admin_client, ("5", "5"), ("5", "6"))) == {"tiers": [said]}

    def test_tiers_by_amount_have_a_currency(self, admin_client):
        found = errors(add(admin_client, ("5", "5"), tiers_by="amount"))
        assert found == {"currency": ["There are sums in the rule: in which currency?"]}

    def test_rows_that_are_empty_do_not_count(self, admin_client):
        add(admin_client, ("", ""), ("5", "12.50"), (" ", ""))
        assert CommissionRule.objects.get().tiers == [[5, "12.5"]]

    def test_there_is_always_room_for_another_tier_up_to_the_most(self, admin_client):
        for number in (0, 5, 19, 20):
            rule = draft(tiers=[[n, "5"] for n in range(1, number + 1)])
            text = page(admin_client, "commissionrule_change", rule.pk)
            rows = len(re.findall(r'name="tiers_\d+_start"', text))
            assert rows == min(max(3, number + 2), 20)

    def test_what_contradicts_itself(self, admin_client):
        partner, group = make_partner(), make_group()
        found = errors(add(admin_client, partner=partner.pk, group=group.pk))
        assert found == {"group": ["A rule is for a partner or for a group, not for both."]}
        found = errors(add(admin_client, valid_from="2027-03-02", valid_until="2027-03-01"))
        assert found == {"valid_until": ["Must be later than the beginning."]}

    def test_what_was_typed_stays_and_the_preview_is_of_what_is_stored(self, admin_client):
        rule = draft(10)
        data = form(("7", "x"), percent="50")
        response = admin_client.post(address("commissionrule_change", rule.pk), data)
        text = response.content.decode()
        assert 'id="id_tiers_0_rate" value="x"' in text
        assert "100.00 EUR 10.00 EUR" in words(text)

    def test_addresses_that_suggest_nonsense(self, admin_client):
        for name in form():
            for value in ("x", "[]", "\0", "9" * 40):
                page(admin_client, "commissionrule_add", **{name: value})
        page(admin_client, "commissionrule_add", tiers="x")

    def test_a_trigger_that_is_gone_can_stay(self, admin_client):
        rule = draft(trigger="Gone")
        text = page(admin_client, "commissionrule_change", rule.pk)
        assert '<option value="Gone" selected>Gone (no longer in the settings)' in text
        data = form(trigger="Gone", name="Renamed")
        assert admin_client.post(address("commissionrule_change", rule.pk), data).status_code == 302
        assert stored(rule).name == "Renamed"

    def test_a_hostile_name_is_text_everywhere(self, admin_client):
        rule = draft(name=HOSTILE, group=PartnerGroup.objects.create(name=HOSTILE))
        published = make_rule(name=HOSTILE, partner=make_partner(name=HOSTILE))
        other = rules.draft_replacement(published)
        for name, *args in [
            ("commissionrule_changelist",),
            ("commissionrule_what_if",),
            ("partnergroup_changelist",),
            *(("commissionrule_change", each.pk) for each in (rule, published, other)),
            ("partnergroup_change", rule.group_id),
        ]:
            assert HOSTILE not in page(admin_client, name, *args)
        assert HOSTILE not in act(admin_client, "publish", other).content.decode()


def typed_in(text):
    """Return what a browser would send of the form as it was shown."""
    found = {}
    for tag in re.findall(r"<input[^>]*>", text):
        name = re.search(r' name="([^"]+)"', tag)
        value = re.search(r' value="([^"]*)"', tag)
        if name and 'type="submit"' not in tag and name[1] in {*form(), *SUMS}:
            found[name[1]] = unescape(value[1]) if value else ""
    for name, body in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', text, re.DOTALL):
        chosen = re.search(r'value="([^"]*)"[^>]* selected', body)
        found[name] = chosen[1] if chosen else ""
    return found


codes = st.sampled_from(sorted(DECIMAL_PLACES))
minors = st.integers(0, 2**63 - 1)


@given(minors, codes)
def test_a_sum_in_major_units_is_the_same_in_minor_ones(minor, currency):
    typed = str(Money(minor, currency).amount)
    rule = CommissionRule(name="x", flat_minor=minor, currency=currency, pk=1)
    shown = RuleForm(instance=rule).initial["flat_minor"]
    assert str(shown) == typed
    data = {"currency": currency, "percent": None, "flat_minor": Decimal(typed)}
    made = RuleForm()
    made.cleaned_data = data
    made._errors = {}
    made.clean()
    assert data["flat_minor"] == minor


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0), codes)
def test_no_sum_is_rounded(amount, currency):
    places = DECIMAL_PLACES[currency]
    try:
        minor = minor_of(amount, currency)
    except ValidationError:
        scaled = amount.scaleb(places) if amount.adjusted() < 20 else amount
        assert amount >= Decimal(2**63).scaleb(-places) or scaled != int(scaled)
    else:
        assert Money(minor, currency).amount == amount


class TestList:
    def make_all(self):
        now = timezone.now()
        anna = make_partner(name="Anna", uid="anna")
        draft(name="A draft")
        make_rule(name="Ahead", valid_from=now + timedelta(days=3), trigger=ORDER)
        make_rule(name="Holds", partner=anna)
        make_rule(name="Holds until", valid_until=now + timedelta(days=3))
        begun = now - timedelta(days=9)
        make_rule(name="Over", published_on=begun, valid_until=now - timedelta(days=1))
        later = now + timedelta(days=3)
        make_rule(name="Never", valid_from=later, valid_until=later + timedelta(1))
        CommissionRule.objects.filter(name="Never").update(valid_until=later)

    def test_the_states_and_the_filters_agree(self, admin_client):
        self.make_all()
        expected = {
            "draft": ["A draft"],
            "ahead": ["Ahead"],
            "holds": ["Holds", "Holds until"],
            "ended": ["Never", "Over"],
        }
        for name, rows in expected.items():
            assert listed(admin_client, state=name) == rows
            found = CommissionRule.objects.filter(name__in=rows)
            assert {wording.state(rule, timezone.now()) for rule in found} == {name}
        assert len(listed(admin_client, state="nonsense")) == 6
        assert len(listed(admin_client)) == 6

    def test_the_other_filters_and_the_search(self, admin_client):
        self.make_all()
        assert listed(admin_client, partner="anna") == ["Holds"]
        assert listed(admin_client, partner="nobody") == []
        assert listed(admin_client, trigger=ORDER) == ["Ahead"]
        assert len(listed(admin_client, trigger="")) == 5
        assert listed(admin_client, q="DRAFT") == ["A draft"]

    def test_a_row_says_all_that_matters(self, admin_client):
        group = PartnerGroup.objects.create(name="Gold")
        make_rule(name="R", group=group, trigger=ORDER, flat_minor=500, currency="EUR")
        said = words(page(admin_client, "commissionrule_changelist"))
        assert f"R holds group Gold {ORDER} 5.00 EUR each" in said
        assert "everybody" not in said
        make_rule(partner=make_partner(name="Anna"))
        draft()
        said = words(page(admin_client, "commissionrule_changelist"))
        assert "holds Anna any 10 %" in said
        assert "draft everybody any 10 %" in said

    @pytest.mark.parametrize("number", [1, 30])
    def test_the_number_of_queries_does_not_depend_on_how_many(self, admin_client, number):
        for _ in range(number):
            make_rule(partner=make_partner())
            make_rule(group=make_group(make_partner()))
        page(admin_client, "commissionrule_changelist")
        with CaptureQueriesContext(
            connection,
        ) as seen:
            page(admin_client, "commissionrule_changelist")
        assert len(seen) == 7, [each["sql"] for each in seen]


class TestWording:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"percent": Decimal("10.0000")}, "10 %"),
            ({"percent": Decimal("7.5"), "currency": "EUR"}, "7.5 % of amounts in EUR"),
            ({"flat_minor": 1_234_567, "currency": "EUR"}, "12,345.67 EUR each"),
            ({"flat_minor": 500, "currency": "JPY"}, "500 JPY each"),
            (
                {"flat_minor": 500, "currency": "EUR", "tiers": [[100, 750]]},
                "5.00 EUR each, 7.50 EUR after the first 100 in a month",
            ),
            (
                {
                    "percent": Decimal(10),
                    "currency": "EUR",
                    "tiers": [[100_000, "12.5"]],
                    "tiers_by": "amount",
                    "period": "year",
                },
                "10 % of amounts in EUR, 12.5 % after the first 1,000.00 EUR in a year",
            ),
            ({"percent": Decimal(10), "months": 12}, "10 %, for 12 months"),
            ({"percent": Decimal(10), "months": 1}, "10 %, for 1 month"),
            ({"percent": Decimal(10), "times": 1}, "10 %, only for a person’s first conversion"),
            ({"percent": Decimal(10), "times": 3}, "10 %, only for a person’s first 3 conversions"),
            (
                {
                    "percent": Decimal(10),
                    "currency": "EUR",
                    "minimum_minor": 5000,
                    "cap_minor": 2000,
                    "period_cap_minor": 50_000,
                    "period": "ever",
                },
                (
                    "10 % of amounts in EUR, if worth 50.00 EUR or more, at most 20.00 EUR each, "
                    "at most 500.00 EUR in all"
                ),
            ),
        ],
    )
    def test_what_it_pays_is_one_sentence(self, fields, said):
        rule = CommissionRule(name="x", **fields)
        assert wording.pays(rule).replace(NBSP, " ") == said

    def test_the_preview_is_what_is_earned(self):
        """Against real conversions: the third column is what the third conversion earns."""
        partner = make_partner()
        rule = make_rule(
            percent=Decimal(10),
            currency="EUR",
            tiers=[[1, "12"], [2, "33.3333"]],
            cap_minor=30_000,
            minimum_minor=1001,
        )
        with freeze(timezone.now() + timedelta(seconds=1)):
            for row, minor in enumerate([1000, 10_000, 100_000]):
                other = make_rule(partner=(partner := make_partner()), **copied(rule))
                for column in range(3):
                    # What comes before is worth enough to count.
                    money = convert(partner, minor=minor).commissions.get().money
                    said = wording.preview(other).rows[row][1][column].replace(NBSP, " ")
                    if minor == 1000:
                        assert money.minor == 0
                        assert said == "nothing: it is worth too little"
                    else:
                        assert said.removesuffix(" (capped)") == str(money)
        assert wording.preview(rule).rows[2][1][2].replace(NBSP, " ") == "300.00 EUR (capped)"

    @given(st.integers(-(10**30), 10**30), st.sampled_from(["EUR", "JPY", "KWD", "???"]))
    def test_any_amount_can_be_said(self, minor, currency):
        said = amount(minor, currency, signed=True)
        digits = re.sub(r"[^0-9]", "", said)
        assert int(digits) == abs(minor)
        assert said[0] == ("+" if minor > 0 else "\N{MINUS SIGN}" if minor < 0 else "0")


def copied(rule):
    names = ("percent", "currency", "tiers", "cap_minor", "minimum_minor")
    return {name: getattr(rule, name) for name in names}


class TestPublish:
    def test_the_page_that_asks_says_what_it_comes_to(self, admin_client):
        old = make_rule(5, name="Old", trigger=ORDER)
        new = rules.draft_replacement(old)
        new.percent, new.name = Decimal(8), "New"
        new.save()
        said = words(act(admin_client, "publish", new).content.decode())
        assert "It pays 8 %." in said
        assert f"It is for everybody, and for “{ORDER}” alone." in said
        assert "It begins to hold 10 seconds after you have confirmed." in said
        assert "It replaces “Old”, which ends at that moment, and pays 5 % until then." in said
        assert "From then on it never changes" in said
        assert not stored(new).is_published

        response = confirm(admin_client, "publish", new)
        assert told(response)[0].startswith("“New” is published. It holds from ")
        assert response.redirect_chain[-1][0] == address("commissionrule_change", new.pk)
        assert stored(new).is_published
        assert stored(old).valid_until == stored(new).published_on
        entry = LogEntry.objects.get()
        assert (entry.action_flag, entry.object_id) == (CHANGE, str(new.pk))

    def test_it_begins_when_it_says(self, admin_client):
        when = timezone.now() + timedelta(days=30)
        rule = draft(valid_from=when, valid_until=when + timedelta(days=1))
        said = words(act(admin_client, "publish", rule).content.decode())
        words_of = wording.moment
        assert f"It holds from {words_of(when)} on, and ends on " in said
        assert "It replaces no other rule." in said
        response = confirm(admin_client, "publish", rule)
        assert words_of(when) in told(response)[0]

    def test_twice_is_once(self, admin_client):
        rule = draft()
        asked = act(admin_client, "publish", rule)
        answer(admin_client, "publish", rule, asked)
        since = stored(rule).published_on
        response = answer(admin_client, "publish", rule, asked)
        assert told(response) == [f"“{rule}” is published already."]
        assert stored(rule).published_on == since
        assert LogEntry.objects.count() == 1

    def test_two_at_once_lose_to_the_faster(self, admin_client, monkeypatch):
        """The other one comes in after all that could be looked at before."""
        rule = draft()
        asked = act(admin_client, "publish", rule)
        real = rules_admin.not_publishable

        def slower(mine):
            problem = real(mine)
            if not stored(mine).is_published:
                rules.publish(stored(mine))
            return problem

        monkeypatch.setattr(rules_admin, "not_publishable", slower)
        response = answer(admin_client, "publish", rule, asked)
        assert told(response) == [f"“{rule}” is published already."]
        assert not LogEntry.objects.exists()

    def test_of_two_drafts_of_one_rule_one_is_published(self, admin_client):
        old = make_rule(5, name="Old")
        first, second = rules.draft_replacement(old), rules.draft_replacement(old)
        asked = act(admin_client, "publish", second)
        confirm(admin_client, "publish", first)
        response = answer(admin_client, "publish", second, asked)
        assert told(response) == ["“Old” was replaced by “Old” meanwhile: change that one instead."]
        assert not stored(second).is_published

    def test_what_a_colleague_changed_meanwhile_is_shown_first(self, admin_client):
        rule = draft(10)
        asked = act(admin_client, "publish", rule)
        CommissionRule.objects.filter(pk=rule.pk).update(percent=50)
        again = answer(admin_client, "publish", rule, asked)
        assert not stored(rule).is_published
        assert told(again) == ["A colleague has changed it meanwhile. Please look at it again."]
        assert "It pays 50 %." in words(again.content.decode())
        answer(admin_client, "publish", rule, again)
        assert stored(rule).is_published

    @pytest.mark.parametrize("seen", [None, "", "x", "\0"])
    def test_nothing_is_published_unseen(self, admin_client, seen):
        rule = draft()
        act(
            admin_client,
            "publish",
            rule,
            confirmed="yes",
            **({} if seen is None else {"seen": seen}),
        )
        assert not stored(rule).is_published

    def test_it_cannot_end_before_it_begins(self, admin_client):
        rule = draft(valid_until=timezone.now() + timedelta(seconds=5))
        response = act(admin_client, "publish", rule)
        assert told(response) == [
            "It would end before it begins: please change until when it is valid."
        ]

    def test_a_draft_in_place_of_one_that_has_ended(self, admin_client):
        now = timezone.now()
        old = make_rule(
            5, name="Old", published_on=now - timedelta(9), valid_until=now - timedelta(1)
        )
        new = rules.draft_replacement(old)
        CommissionRule.objects.filter(pk=new.pk).update(valid_until=None)
        said = words(act(admin_client, "publish", new).content.decode())
        assert "It replaces “Old”, which has ended." in said
        confirm(admin_client, "publish", new)
        assert stored(new).is_published

    def test_one_at_a_time(self, admin_client):
        rows = [draft(), draft()]
        for action in ("publish", "change_it", "let_it_end"):
            assert told(act(admin_client, action, *rows)) == ["Please select one rule at a time."]


class TestPublished:
    def test_its_page_is_to_be_read(self, admin_client):
        rule = make_rule(10, currency="EUR", cap_minor=1234)
        for _ in range(3):
            convert()
        text = page(admin_client, "commissionrule_change", rule.pk)
        assert "_save" not in text
        assert 'name="percent"' not in text
        said = words(text)
        assert "10 % of amounts in EUR, at most 12.34 EUR each" in said.replace(NBSP, " ")
        assert 'value="publish"' not in text
        assert 'value="change_it"' in text
        assert 'value="let_it_end"' in text

    def test_it_says_how_many_commissions_it_has_earned(self, admin_client, monkeypatch):
        now = timezone.now() - timedelta(days=1)
        rule = make_rule(published_on=now)
        for _ in range(3):
            convert()
        assert "Commissions that it has earned: 3" in words(
            page(admin_client, "commissionrule_change", rule.pk)
        )
        monkeypatch.setattr(rules_admin, "BOUND", 2)
        assert "Commissions that it has earned: 2+" in words(
            page(admin_client, "commissionrule_change", rule.pk)
        )

    def test_the_history_links_what_replaced_what(self, admin_client):
        first = make_rule(5, name="First")
        second = rules.draft_replacement(first)
        CommissionRule.objects.filter(pk=second.pk).update(name="Second")
        rules.publish(second)
        third = rules.draft_replacement(second)
        for rule in (first, second, third):
            text = page(admin_client, "commissionrule_change", rule.pk)
            others = {first.pk, second.pk, third.pk} - {rule.pk}
            for pk in others:
                assert f'<a href="{address("commissionrule_change", pk)}">' in text
            assert text.count("(this one)") == 1

    def test_change_it_opens_a_draft_and_twice_the_same_one(self, admin_client):
        rule = make_rule(5, name="Old")
        response = act(admin_client, "change_it", rule)
        new = CommissionRule.objects.get(replaces=rule)
        assert response.redirect_chain[-1][0] == address("commissionrule_change", new.pk)
        assert told(response) == [
            "This draft replaces “Old” once it is published. Until then that holds."
        ]
        again = act(admin_client, "change_it", rule)
        assert again.redirect_chain[-1][0] == address("commissionrule_change", new.pk)
        assert told(again) == ["There is a draft that replaces “Old” already: this one."]
        assert CommissionRule.objects.count() == 2
        assert LogEntry.objects.get().action_flag == ADDITION
        rules.publish(new)
        once_more = act(admin_client, "change_it", rule)
        assert told(once_more) == ["It was replaced by “Old”: change that one."]
        assert once_more.redirect_chain[-1][0] == address("commissionrule_change", new.pk)
        assert 'value="change_it"' not in page(admin_client, "commissionrule_change", rule.pk)

    def test_let_it_end_twice(self, admin_client):
        rule = make_rule(name="R", published_on=timezone.now() - timedelta(days=1))
        asked = act(admin_client, "let_it_end", rule)
        assert "It ends 10 seconds after you have confirmed" in words(asked.content.decode())
        assert stored(rule).valid_until is None
        response = confirm(admin_client, "let_it_end", rule)
        assert told(response) == ["“R” ends in 10 seconds."]
        end = stored(rule).valid_until
        assert end is not None
        with freeze(end + timedelta(seconds=1)):
            again = confirm(admin_client, "let_it_end", rule)
        assert told(again) == ["It is a draft, or has ended: nothing was done."]
        assert stored(rule).valid_until == end
        assert LogEntry.objects.count() == 1

    def test_whoever_lets_it_end_second_is_told(self, admin_client, monkeypatch):
        rule = make_rule(published_on=timezone.now() - timedelta(days=1))
        real = rules.retire

        def slower(mine):
            CommissionRule.objects.filter(pk=mine.pk).update(valid_until=timezone.now())
            real(mine)

        monkeypatch.setattr(rules, "retire", slower)
        assert told(confirm(admin_client, "let_it_end", rule)) == [
            "It had ended already: nothing was done."
        ]
        assert not LogEntry.objects.exists()

    def test_a_form_that_was_open_while_it_was_published(self, admin_client):
        rule = draft(10)
        rules.publish(rule)
        path = address("commissionrule_change", rule.pk)
        response = admin_client.post(path, form(percent="50"), follow=True)
        assert told(response) == [
            "The rule is published: it never changes, and stays. Nothing was done."
        ]
        assert stored(rule).percent == 10

    def test_it_is_published_in_the_very_moment_in_which_it_is_saved(
        self, admin_client, monkeypatch
    ):
        rule = draft(10)
        real = RuleForm.save

        def slower(self, *args, **kwargs):
            CommissionRule.objects.filter(pk=rule.pk).update(published_on=timezone.now())
            return real(self, *args, **kwargs)

        monkeypatch.setattr(RuleForm, "save", slower)
        path = address("commissionrule_change", rule.pk)
        response = admin_client.post(path, form(percent="50"), follow=True)
        assert "never changes" in told(response)[0]
        assert stored(rule).percent == 10

    def test_only_drafts_are_deleted(self, admin_client, monkeypatch):
        rule, other = draft(), make_rule()
        path = address("commissionrule_delete", rule.pk)
        assert admin_client.get(path).status_code == 200
        assert admin_client.post(path, {"post": "yes"}).status_code == 302
        assert list(CommissionRule.objects.all()) == [other]
        path = address("commissionrule_delete", other.pk)
        response = admin_client.post(path, {"post": "yes"}, follow=True)
        assert "never changes" in told(response)[-1]
        late = draft()
        real = CommissionRule.delete

        def slower(self):
            CommissionRule.objects.filter(pk=late.pk).update(published_on=timezone.now())
            return real(self)

        monkeypatch.setattr(CommissionRule, "delete", slower)
        path = address("commissionrule_delete", late.pk)
        response = admin_client.post(path, {"post": "yes"}, follow=True)
        assert "never changes" in told(response)[0]
        assert CommissionRule.objects.filter(pk=late.pk).exists()

    def test_there_is_no_way_to_delete_many(self, admin_client):
        assert "delete_selected" not in page(admin_client, "commissionrule_changelist")


class TestPermissions:
    def test_nobody_without_permission(self, client):
        client = staff_with(client)
        rule = draft()
        for name, *args in [
            ("commissionrule_changelist",),
            ("commissionrule_add",),
            ("commissionrule_what_if",),
            ("commissionrule_change", rule.pk),
            ("commissionrule_delete", rule.pk),
            ("partnergroup_changelist",),
            ("partnergroup_add",),
        ]:
            assert client.get(address(name, *args)).status_code == 403, name
        assert act(client, "publish", rule).status_code == 403
        path = address("commissionrule_change", rule.pk)
        assert client.post(path, form()).status_code == 403

    def test_whoever_may_look_can_do_nothing(self, client):
        client = staff_with(client, "view_commissionrule", "view_partnergroup")
        rule, published = draft(cap_minor=1234, currency="EUR"), make_rule()
        group = make_group(make_partner(name="Anna"))
        said = page(client, "commissionrule_change", rule.pk)
        assert "at most 12.34 EUR each" in said.replace(NBSP, " ")
        assert 'value="publish"' not in said
        assert 'value="change_it"' not in page(client, "commissionrule_change", published.pk)
        for row, action in [(rule, "publish"), (published, "change_it"), (published, "let_it_end")]:
            act(client, action, row, confirmed="yes")
        assert not stored(rule).is_published
        assert stored(published).valid_until is None
        assert CommissionRule.objects.count() == 2
        for row in (rule, published):
            path = address("commissionrule_change", row.pk)
            assert client.post(path, form()).status_code == 403
            path = address("commissionrule_delete", row.pk)
            assert client.post(path, {"post": "yes"}).status_code == 403
        assert client.post(address("commissionrule_add"), form()).status_code == 403
        assert "Anna" in page(client, "partnergroup_change", group.pk)
        path = address("partnergroup_change", group.pk)
        assert client.post(path, {"name": "x"}).status_code == 403
        page(client, "commissionrule_what_if")

    def test_whoever_may_change_but_not_add_drafts_nothing(self, client):
        client = staff_with(client, "view_commissionrule", "change_commissionrule")
        published = make_rule()
        act(client, "change_it", published)
        assert CommissionRule.objects.count() == 1
        confirm(client, "let_it_end", published)
        assert stored(published).valid_until is not None

    def test_whoever_may_only_add_is_not_led_to_what_they_may_not_see(self, client):
        client = staff_with(client, "add_commissionrule")
        response = client.post(address("commissionrule_add"), form())
        assert (response.status_code, response.url) == (302, reverse("admin:index"))


class TestGroups:
    def post(self, client, group, **data):
        path = address("partnergroup_change", group.pk) if group else address("partnergroup_add")
        return client.post(path, {"name": group.name if group else "Gold", **data}, follow=True)

    def test_partners_come_and_leave(self, admin_client):
        anna, bert, carl = (make_partner(name=name) for name in ("Anna", "Bert", "Carl"))
        self.post(admin_client, None, come=[anna.pk, bert.pk])
        group = PartnerGroup.objects.get(name="Gold")
        assert {*group.partners.all()} == {anna, bert}
        self.post(admin_client, group, come=[carl.pk], leave=[anna.pk])
        assert {*group.partners.all()} == {bert, carl}
        said = words(page(admin_client, "partnergroup_change", group.pk))
        assert "Members: 2 Bert , Carl" in said
        changes = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
        assert "Take partners out" in changes[1]

    def test_what_cannot_be(self, admin_client):
        anna, bert = make_partner(name="Anna"), make_partner(name="Bert")
        group = make_group(anna)
        assert errors(self.post(admin_client, group, leave=[bert.pk])) == {
            "leave": ["Bert is no member."]
        }
        found = errors(self.post(admin_client, group, come=[anna.pk], leave=[anna.pk]))
        assert found == {"leave": ["Both added and taken out: Anna."]}
        for value in ("x", bert.pk + 1, "9" * 40, "\0"):
            assert list(errors(self.post(admin_client, group, come=[value]))) == ["come"]
        make_group()
        assert list(
            errors(
                admin_client.post(
                    address("partnergroup_change", group.pk),
                    {"name": PartnerGroup.objects.latest("pk").name},
                )
            )
        ) == ["name"]
        assert {*group.partners.all()} == {anna}

    def test_a_group_of_thousands_can_be_saved(self, admin_client):
        group = make_group()
        group.partners.set(make_many(1500))
        shown = admin_client.get(address("partnergroup_change", group.pk))
        text = shown.content.decode()
        assert len(text) < 60_000
        assert "1,500, of whom the first 100 are:" in words(text)
        self.post(admin_client, group, come=[make_partner().pk])
        assert group.partners.count() == 1501

    @pytest.mark.parametrize("number", [1, 20])
    def test_the_number_of_queries_does_not_depend_on_how_many(self, admin_client, number):
        for _ in range(number):
            make_rule(group=make_group(make_partner(), make_partner()))
        page(admin_client, "partnergroup_changelist")
        with CaptureQueriesContext(connection) as seen:
            text = page(admin_client, "partnergroup_changelist")
        assert len(seen) == 6, [each["sql"] for each in seen]
        group = PartnerGroup.objects.first()
        assert '<td class="field-members_">2</td>' in text
        assert f'?group__id__exact={group.pk}">1</a>' in text
        assert len(listed(admin_client, group__id__exact=group.pk)) == 1

    def test_a_group_with_rules_stays(self, admin_client, monkeypatch):
        group, empty = make_group(), make_group()
        path = address("partnergroup_delete", empty.pk)
        assert admin_client.post(path, {"post": "yes"}).status_code == 302
        assert list(PartnerGroup.objects.all()) == [group]
        real = PartnerGroup.delete

        def slower(self):
            make_rule(group=group)
            return real(self)

        monkeypatch.setattr(PartnerGroup, "delete", slower)
        path = address("partnergroup_delete", group.pk)
        response = admin_client.post(path, {"post": "yes"}, follow=True)
        assert told(response)[-1] == "There are rules for the group: nothing was done."
        assert PartnerGroup.objects.filter(pk=group.pk).exists()


def make_many(number):
    model = make_partner().__class__
    rows = [model(name=f"P{n}", uid=f"m{n}") for n in range(number)]
    return model.objects.bulk_create(rows)
