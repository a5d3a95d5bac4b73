"""The admin of the experiments: campaigns in words, put into force only by who is asked twice."""

import json
import re
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from affiliations.experiments import live, publishing
from affiliations.experiments.admin import campaigns as campaigns_admin
from affiliations.experiments.admin import exclusions as exclusions_admin
from affiliations.experiments.admin import groups as groups_admin
from affiliations.experiments.admin.conditions import MOST_ROWS, ConditionsField, rows_of
from affiliations.experiments.models import (
    Assignment,
    Campaign,
    Environment,
    Exclusion,
    Variation,
    VariationGroup,
)
from affiliations.experiments.models.campaigns import everybody
from tests.core.factories import make_partner, make_user
from tests.experiments.factories import (
    BLUE,
    ORIGINAL,
    make_assignment,
    make_campaign,
    make_exclusion,
    make_group,
    make_variation,
)
from tests.tracking.factories import make_property, say

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"
JUNK = ["", "x", "-1", "0", "9" * 30, "\0", HOSTILE, "٣", "1.5", "😀", "%s"]
GOLD = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]


class Filled(HTMLParser):
    """What a browser without script would send of the form of a page."""

    def __init__(self, text):
        super().__init__()
        self.sent, self.select, self.area = {}, None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        name = found.get("name")
        if tag == "select":
            self.select = name
        elif tag == "option" and self.select and "selected" in found:
            self.sent[self.select] = found["value"]
        elif tag == "textarea":
            self.area, self.sent[name] = name, ""
        elif tag == "input" and name and "disabled" not in found:
            kind = found.get("type")
            if kind == "checkbox":
                if "checked" in found:
                    self.sent[name] = "on"
            elif kind not in ("submit", "button"):
                self.sent[name] = found.get("value") or ""

    def handle_endtag(self, tag):
        if tag == "select":
            self.select = None
        elif tag == "textarea":
            # The first end of a line is none of it.
            self.sent[self.area] = self.sent[self.area].removeprefix("\n")
            self.area = None

    def handle_data(self, data):
        if self.area:
            self.sent[self.area] += data


def address(name, *args):
    return reverse(f"admin:affiliations_experiments_{name}", args=args)


def page(client, name, /, *args, **query):
    response = client.get(address(name, *args), query)
    assert response.status_code == 200, (name, args, query)
    return response.content.decode()


def words(text):
    """Return what a page says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def said(client, name, /, *args, **query):
    return words(page(client, name, *args, **query))


def told(response):
    return [str(message) for message in response.context["messages"]]


def save(client, url, /, **fields):
    """Fill in the form of a page, and send it."""
    form = client.get(url).content.decode()
    form = form[form.index("_form") :].partition("</form>")[0]
    return client.post(url, {**Filled(form).sent, "_save": "Save", **fields}, follow=True)


def act(client, action, *rows, model="campaign", **more):
    keys = [row.pk for row in rows]
    form = {"action": action, "_selected_action": keys, "index": 0, **more}
    return client.post(address(f"{model}_changelist"), form, follow=True)


def confirm(client, action, *rows, model="campaign", **more):
    """Do something, and answer yes to what is asked."""
    asked = act(client, action, *rows, model=model)
    seen = {} if "seen" not in (asked.context or {}) else {"seen": asked.context["seen"]}
    return act(client, action, *rows, model=model, confirmed="yes", **{**seen, **more})


def staff_with(client, *codenames):
    """Log somebody in who may do this and nothing else."""
    user = make_user()
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


def colors(campaign):
    """Return what is in force of the first group: each colour, and its share."""
    campaign.refresh_from_db()
    group = json.loads(campaign.current.rules)["groups"][0]
    named = {each["id"]: each["value"].get("color") for each in group["variations"]}
    found = {}
    for owner, width in group["runs"]:
        found[named.get(owner)] = found.get(named.get(owner), 0) + width
    return found


def errors(response):
    """Return all that a page says is wrong with what was typed."""
    assert response.status_code == 200
    found = re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', response.content.decode(), re.S)
    return [words(each) for each in found]


class TestList:
    def test_what_is_listed(self, admin_client):
        ends_on = timezone.now() - timedelta(days=1)
        make_campaign(name="Green", slug="green")
        make_campaign(name="Over", ends_on=ends_on)
        make_campaign(name="Early", starts_on=timezone.now() + timedelta(days=1))
        make_campaign(name="Not yet", live=False)
        text = said(admin_client, "campaign_changelist")
        for each in ("Green", "green", "live, over", "live, not begun", "draft", "at any time"):
            assert each in text

    def test_filters_and_search(self, admin_client):
        one = make_campaign(name="Green", slug="abc")
        make_campaign(name="Red", live=False, type="toggle")
        for query, names in (
            ({"state__exact": "live"}, ["Green"]),
            ({"type__exact": "toggle"}, ["Red"]),
            ({"property__id__exact": one.property_id}, ["Green"]),
            ({"q": "abc"}, ["Green"]),
            ({"q": "re"}, ["Green", "Red"]),
        ):
            text = page(admin_client, "campaign_changelist", **query)
            assert sorted(re.findall(r'field-name"><a[^>]*>([^<]+)<', text)) == names, query

    @pytest.mark.parametrize("model", ["campaign", "assignment", "exclusion", "environment"])
    def test_a_hundred_cost_as_many_queries_as_one(self, admin_client, model):
        def make():
            campaign = make_campaign(exclusion=None)
            exclusion = make_exclusion(campaign.property)
            make_campaign(campaign.property, exclusion=exclusion)
            make_assignment(campaign.groups.get().variations.first(), partner=make_partner())

        url = address(f"{model}_changelist")
        make()
        admin_client.get(url)
        with CaptureQueriesContext(
            connection,
        ) as one:
            admin_client.get(url)
        for _ in range(5):
            make()
        with CaptureQueriesContext(connection) as many:
            admin_client.get(url)
        assert len(many) <= len(one)


class TestDraft:
    def add(self, client, prop, **fields):
        form = {
            "name": "Green",
            "slug": "green",
            "property": prop.pk,
            "type": "ab",
            "exclusion_share": 50,
            **fields,
        }
        return client.post(address("campaign_add"), form, follow=True)

    def test_a_new_one_has_a_group_for_everybody(self, admin_client):
        prop = make_property()
        response = self.add(admin_client, prop)
        campaign = Campaign.objects.get()
        assert response.redirect_chain[-1][0] == address("campaign_change", campaign.pk)
        assert (campaign.state, campaign.current) == ("draft", None)
        group = campaign.groups.get()
        assert group.targeting == everybody()
        found = group.variations.values_list("name", "allocation", "is_reference")
        assert list(found) == [("Original", 50, True), ("Variation 1", 50, False)]
        assert Environment.objects.get().property == prop
        assert "nobody sees anything of it" in words(response.content.decode())

    def test_what_is_wrong_with_it(self, admin_client):
        campaign = make_campaign(slug="green")
        prop = campaign.property
        assert errors(self.add(admin_client, prop)) == [
            "Campaign with this Property and Slug already exists."
        ]
        assert "Only letters" in errors(self.add(admin_client, prop, slug="a b"))[0]
        found = errors(self.add(admin_client, prop, slug="x", exclusion_share=101))
        assert "less than or equal to 100" in found[0]
        times = {"starts_on": "2026-01-02T00:00", "ends_on": "2026-01-01T00:00"}
        assert errors(self.add(admin_client, prop, slug="x", **times)) == [
            "Must be later than the beginning."
        ]
        other = make_exclusion()
        found = errors(self.add(admin_client, prop, slug="x", exclusion=other.pk))
        assert found == ["Is another property’s."]
        assert Campaign.objects.count() == 1

    def test_its_property_stays(self, admin_client):
        campaign = make_campaign(live=False)
        before = campaign.property
        save(
            admin_client,
            address("campaign_change", campaign.pk),
            property=make_property().pk,
            name="New",
        )
        campaign.refresh_from_db()
        assert (campaign.property, campaign.name) == (before, "New")

    def test_only_drafts_are_deleted(self, admin_client):
        draft, shown = make_campaign(live=False), make_campaign()
        for each in (draft, shown):
            admin_client.post(address("campaign_delete", each.pk), {"post": "yes"})
        assert list(Campaign.objects.all()) == [shown]
        response = admin_client.get(address("campaign_delete", shown.pk))
        assert response["location"] == address("campaign_change", shown.pk)
        response = admin_client.get(response["location"])
        assert "cannot be deleted" in told(response)[-1]

    def test_what_has_ended_stays(self, admin_client):
        campaign = publishing.archive(campaign=make_campaign(name="Before"))
        text = said(admin_client, "campaign_change", campaign.pk)
        assert "It has ended, and stays as it was" in text
        assert "Add a group" not in text
        group = campaign.groups.get()
        urls = [
            address("campaign_change", campaign.pk),
            address("variationgroup_change", group.pk),
            f"{address('variationgroup_add')}?campaign={campaign.pk}",
        ]
        for url in urls:
            assert admin_client.post(url, {"name": "After"}).status_code == 403
        assert not VariationGroup.objects.filter(name="After")


class TestLive:
    def test_changes_are_no_more_than_a_draft(self, admin_client):
        campaign = make_campaign()
        url = address("campaign_change", campaign.pk)
        assert "All that is on this page is in force" in words(
            admin_client.get(url).content.decode()
        )
        group = address("variationgroup_change", campaign.groups.get().pk)
        response = save(
            admin_client,
            group,
            **{"variations-1-modifications": '{"color": "navy"}', "variations-1-allocation": 20},
        )
        assert told(response) == ["Saved. Nobody sees it before you put the changes into force."]
        assert colors(campaign) == {"red": 50, "blue": 50}
        text = words(response.content.decode())
        assert "What is in force differs from this page" in text
        assert "“Everybody”: “Blue” has 20 % in place of 50 %." in text
        assert "“Everybody”, “Blue”: color is “navy” in place of “blue”." in text
        assert "“Everybody”: 30 of a hundred visitors see nothing any more." in text
        response = confirm(admin_client, "put_into_force", campaign)
        assert "Version 2" in told(response)[0]
        assert colors(campaign) == {"red": 50, "navy": 20}
        assert campaign.current.created_by.username == "admin"
        assert "Put into force: version 2." in str(LogEntry.objects.latest("pk"))

    def test_who_would_see_something_else_is_said_before(self, admin_client):
        campaign = make_campaign()
        Variation.objects.filter(name="Original").update(allocation=20)
        Variation.objects.filter(name="Blue").update(allocation=80)
        asked = act(admin_client, "put_into_force", campaign)
        text = words(asked.content.decode())
        assert "30 of a hundred visitors go from one variation to another" in text
        assert "It becomes version 2" in text
        assert colors(campaign) == {"red": 50, "blue": 50}

    def test_names_are_changes_too(self, admin_client):
        campaign = make_campaign(name="Green", slug="green", type="ab")
        response = save(
            admin_client,
            address("campaign_change", campaign.pk),
            name="Greener",
            slug="greener",
            type="toggle",
            exclusion=make_exclusion(campaign.property).pk,
        )
        text = words(response.content.decode())
        assert "Name: “Greener” in place of “Green”." in text
        assert "Programs that ask for the old one find nothing." in text
        assert "Type: “feature toggle” in place of “A/B test”." in text
        assert (
            "It is in another exclusion group, of which 50 % of all visitors are its own." in text
        )
        assert "(bucketing mode) do not get all of it" in text

    def test_kinds_of_numbers_are_changes_too(self, admin_client):
        campaign = make_campaign(groups=[{"variations": [{"modifications": {"a": 1, "b": 1}}]}])
        Variation.objects.update(modifications='{"a": 1.0, "b": true}')
        text = said(admin_client, "campaign_change", campaign.pk)
        assert "a is 1.0 in place of 1." in text
        assert "b is yes in place of 1." in text

    def test_groups_are_changes_too(self, admin_client):
        campaign = make_campaign(groups=[{"name": "A"}, {"name": "B"}])
        one = campaign.groups.first()
        one.targeting, one.name, one.position = GOLD, "Golden", 9
        one.save()
        blue = one.variations.last()
        blue.retired = True
        blue.save()
        make_group(campaign, name="C", position=20, targeting=GOLD)
        make_variation(one, name="Green", allocation=10)
        text = said(admin_client, "campaign_change", campaign.pk)
        for each in (
            "Name of a group: “Golden” in place of “A”.",
            "“Golden” is for: plan is “gold”. Before for: everybody.",
            "“Golden”: nobody sees “Blue” any more, whoever has seen it included.",
            "“Golden”: “Green” is new, with 10 %.",
            "The group “C” is new, for: plan is “gold”.",
            "The groups are asked in another order.",
        ):
            assert each in text
        assert confirm(admin_client, "put_into_force", campaign).status_code == 200
        campaign.groups.filter(name="B").delete()
        text = said(admin_client, "campaign_change", campaign.pk)
        assert "The group “B” is gone." in text

    def test_a_schedule_holds_at_once(self, admin_client):
        campaign = make_campaign()
        known = live.of_property(campaign.property_id)
        assert known.now().campaigns
        stamp = Environment.objects.get().stamp
        url = address("campaign_change", campaign.pk)
        response = save(admin_client, url, ends_on="2026-01-01T00:00")
        assert "live, over" in words(response.content.decode())
        assert not live.of_property(campaign.property_id).now().campaigns
        # By which other processes know, too.
        assert Environment.objects.get().stamp > stamp

    def test_what_others_do_meanwhile_stays(self, admin_client, monkeypatch):
        campaign = make_campaign()
        saved = campaigns_admin.CampaignForm.clean

        def paused_meanwhile(form):
            saved(form)
            publishing.pause(campaign=campaign)

        monkeypatch.setattr(campaigns_admin.CampaignForm, "clean", paused_meanwhile)
        save(admin_client, address("campaign_change", campaign.pk), name="New")
        found = Campaign.objects.get()
        assert (found.state, found.name) == ("paused", "New")

    def test_what_cannot_be_shown_is_said(self, admin_client):
        campaign = make_campaign()
        Variation.objects.update(allocation=60)
        text = said(admin_client, "campaign_change", campaign.pk)
        assert "cannot be put into force" in text
        assert "Shares: the shares of Everybody come to 120 %" in text
        response = act(admin_client, "put_into_force", campaign, confirmed="yes")
        assert "Nothing was done" in told(response)[0]
        assert colors(campaign) == {"red": 50, "blue": 50}

    def test_in_panic_its_page_is_red(self, admin_client):
        campaign = make_campaign()
        publishing.set_panic(prop=campaign.property, panic=True)
        assert "Panic is switched on" in said(admin_client, "campaign_change", campaign.pk)
        Variation.objects.update(allocation=10)
        text = words(act(admin_client, "put_into_force", campaign).content.decode())
        assert "Panic is switched on" in text

    def test_the_page_costs_as_many_queries_for_many_groups(self, admin_client):
        campaign = make_campaign(groups=[{}])
        wide = make_campaign(groups=[{"targeting": GOLD}] * 8)
        found = []
        for each in (campaign, wide):
            with CaptureQueriesContext(connection) as asked:
                admin_client.get(address("campaign_change", each.pk))
            found.append(len(asked))
        assert found[1] <= found[0]
        assert found[0] < 40


class TestSteps:
    def test_start_pause_start_archive(self, admin_client):
        campaign = make_campaign(live=False)
        asked = act(admin_client, "start", campaign)
        assert "Start this campaign?" in asked.content.decode()
        campaign.refresh_from_db()
        assert campaign.state == "draft"
        for action, state, number in (
            ("start", "live", 1),
            ("pause", "paused", 1),
            ("start", "live", 1),
            ("archive", "archived", 1),
        ):
            response = confirm(admin_client, action, campaign)
            assert len(response.redirect_chain) == 1, action
            campaign.refresh_from_db()
            assert (campaign.state, campaign.current.number) == (state, number)
        assert LogEntry.objects.count() == 4

    @pytest.mark.parametrize(
        ("state", "offered"),
        [
            ("draft", {"start", "archive"}),
            ("live", {"pause", "archive"}),
            ("paused", {"start", "archive"}),
            ("archived", set()),
        ],
    )
    def test_what_a_state_offers(self, admin_client, state, offered):
        campaign = make_campaign()
        Campaign.objects.update(state=state)
        response = admin_client.get(address("campaign_change", campaign.pk))
        assert {name for name, _text in response.context["buttons"]} == offered
        for action in {"start", "pause", "archive", "put_into_force"} - offered:
            response = act(admin_client, action, campaign, confirmed="yes")
            assert "nothing was done" in told(response)[0]
            campaign.refresh_from_db()
            assert (campaign.state, campaign.versions.count()) == (state, 1)

    def test_one_at_a_time(self, admin_client):
        one, other = make_campaign(live=False), make_campaign(live=False)
        for action in ("start", "pause", "archive", "put_into_force"):
            response = act(admin_client, action, one, other, confirmed="yes")
            assert told(response) == ["Please select one campaign at a time."]
        assert set(Campaign.objects.values_list("state", flat=True)) == {"draft"}

    @pytest.mark.parametrize("seen", [None, "", "x", HOSTILE])
    def test_what_was_not_seen_is_not_put_into_force(self, admin_client, seen):
        campaign = make_campaign(live=False)
        asked = act(admin_client, "start", campaign)
        before = asked.context["seen"]
        Variation.objects.filter(name="Blue").update(modifications='{"color": "navy"}')
        more = {"seen": before if seen is None else seen}
        response = act(admin_client, "start", campaign, confirmed="yes", **more)
        assert "A colleague has changed it meanwhile" in told(response)[0]
        assert "navy" in response.content.decode()
        campaign.refresh_from_db()
        assert (campaign.state, campaign.current) == ("draft", None)
        assert not campaign.versions.exists()
        response = act(
            admin_client, "start", campaign, confirmed="yes", seen=response.context["seen"]
        )
        assert colors(campaign) == {"red": 50, "navy": 50}

    @pytest.mark.parametrize(
        ("groups", "wrong"),
        [
            ([], "Groups: there must be one at least"),
            ([{"variations": []}], "Variations: Everybody must have one at least"),
            (
                [{"variations": [ORIGINAL, {**BLUE, "is_reference": True}]}],
                "Reference: only one variation",
            ),
            ([{"variations": [{**BLUE, "modifications": "{"}]}], "Modifications: Everybody"),
            ([{"targeting": "x"}], "Who is meant: Everybody"),
        ],
    )
    def test_what_cannot_be_shown_is_not_started(self, admin_client, groups, wrong):
        campaign = make_campaign(groups=groups, live=False)
        text = said(admin_client, "campaign_change", campaign.pk)
        assert "It cannot be started like this." in text
        assert wrong in text
        for more in ({}, {"confirmed": "yes"}):
            response = act(admin_client, "start", campaign, **more)
            assert wrong in told(response)[0]
        campaign.refresh_from_db()
        assert (campaign.state, campaign.current) == ("draft", None)

    def test_an_exclusion_group_that_is_full(self, admin_client):
        prop = make_property()
        exclusion = make_exclusion(prop, name="Checkout")
        make_campaign(prop, exclusion=exclusion, exclusion_share=70)
        other = make_campaign(prop, exclusion=exclusion, exclusion_share=40, live=False)
        response = act(admin_client, "start", other, confirmed="yes")
        assert "Share of the exclusion group: Checkout has 30 % left" in told(response)[0]
        other.refresh_from_db()
        assert other.state == "draft"

    def test_to_look_at_it_shares_nothing_out(self, admin_client):
        prop = make_property()
        exclusion = make_exclusion(prop)
        draft = make_campaign(prop, exclusion=exclusion, live=False)
        assert "50 % of all" not in said(admin_client, "campaign_change", draft.pk)
        act(admin_client, "start", draft)
        exclusion.refresh_from_db()
        assert exclusion.runs == []


class TestPermissions:
    PAGES = ("campaign_change", "campaign_explain", "campaign_history")

    def test_who_may_look_cannot_act(self, client):
        campaign = make_campaign()
        Variation.objects.update(allocation=10)
        staff_with(client, "view_campaign")
        for name in self.PAGES:
            assert client.get(address(name, campaign.pk)).status_code == 200, name
        assert client.get(address("campaign_version", campaign.pk, 1)).status_code == 200
        response = client.get(address("campaign_change", campaign.pk))
        assert response.context["buttons"] == []
        text = words(response.content.decode())
        assert "Change this group" not in text
        assert "See this group" in text
        group = address("variationgroup_change", campaign.groups.get().pk)
        assert client.get(group).status_code == 200
        assert "color" in client.get(group).content.decode()
        for action in ("put_into_force", "pause", "archive", "start"):
            act(client, action, campaign, confirmed="yes")
        for url in (address("campaign_change", campaign.pk), group):
            assert client.post(url, {"name": "x"}).status_code == 403
        for url in (
            address("campaign_add"),
            f"{address('variationgroup_add')}?campaign={campaign.pk}",
            address("variationgroup_delete", campaign.groups.get().pk),
        ):
            assert client.get(url).status_code == 403
        assert colors(campaign) == {"red": 50, "blue": 50}
        assert campaign.state == "live"

    def test_whoever_may_not_look_sees_nothing(self, client):
        campaign = make_campaign()
        assignment = make_assignment(campaign.groups.get().variations.first())
        environment, exclusion = Environment.objects.get(), make_exclusion()
        staff_with(client, "view_property")
        urls = [address(name, campaign.pk) for name in self.PAGES]
        urls += [
            address("campaign_version", campaign.pk, 1),
            address("variationgroup_change", campaign.groups.get().pk),
            address("assignment_change", assignment.pk),
            address("environment_change", environment.pk),
            address("exclusion_change", exclusion.pk),
        ]
        urls += [
            address(f"{model}_changelist")
            for model in ("campaign", "variationgroup", "assignment", "environment", "exclusion")
        ]
        for url in urls:
            assert client.get(url).status_code == 403, url

    def test_who_may_change_campaigns_may_change_their_groups(self, client):
        campaign = make_campaign(live=False)
        staff_with(client, "view_campaign", "change_campaign")
        url = address("variationgroup_change", campaign.groups.get().pk)
        save(client, url, name="All of them", **{"variations-0-name": "As it was"})
        group = campaign.groups.get()
        assert group.name == "All of them"
        assert group.variations.first().name == "As it was"
        assert client.get(address("campaign_delete", campaign.pk)).status_code == 403
        response = confirm(client, "start", campaign)
        assert "is in force" in told(response)[0]

    def test_nobody_panics_who_may_only_look(self, client):
        campaign = make_campaign()
        staff_with(client, "view_environment", "change_campaign")
        environment = Environment.objects.get(property=campaign.property)
        act(client, "panic_on", environment, model="environment", confirmed="yes")
        environment.refresh_from_db()
        assert not environment.panic


class TestConditions:
    def test_rows_become_targeting(self, admin_client):
        campaign = make_campaign(live=False)
        url = address("variationgroup_change", campaign.groups.get().pk)
        rows = [
            ("1", "plan", "EQUALS", "text", "gold\r\n platinum \r\n\r\n"),
            ("1", "orders", "GREATER_THAN", "number", "3"),
            ("7", "fs_users", "EQUALS", "text", "tester"),
            ("3", "beta", "EQUALS", "truth", "yes"),
            ("3", "mail", "EXISTS", "text", ""),
            ("3", "rate", "NOT_EQUALS", "json", '"1"\n1\n1.5\ntrue'),
        ]
        save(admin_client, url, **typed(rows))
        assert campaign.groups.get().targeting == [
            [
                {"key": "plan", "operator": "EQUALS", "value": ["gold", "platinum"]},
                {"key": "orders", "operator": "GREATER_THAN", "value": 3},
            ],
            [
                {"key": "beta", "operator": "EQUALS", "value": True},
                {"key": "mail", "operator": "EXISTS", "value": True},
                {"key": "rate", "operator": "NOT_EQUALS", "value": ["1", 1, 1.5, True]},
            ],
            [{"key": "fs_users", "operator": "EQUALS", "value": "tester"}],
        ]
        text = said(admin_client, "campaign_change", campaign.pk)
        assert "plan is “gold” or “platinum” and orders is greater than 3" in text
        assert "or beta is yes and mail is known and rate is not “1”, 1, 1.5 nor yes" in text
        assert "or the visitor’s id is “tester”" in text

    def test_none_means_everybody(self, admin_client):
        campaign = make_campaign(groups=[{"targeting": GOLD}], live=False)
        url = address("variationgroup_change", campaign.groups.get().pk)
        save(admin_client, url, **typed([("1", "", "EQUALS", "text", "")]))
        assert campaign.groups.get().targeting == everybody()

    @pytest.mark.parametrize(
        ("row", "wrong"),
        [
            (("0", "a", "EQUALS", "text", "b"), "The block is a number from 1"),
            (("x", "a", "EQUALS", "text", "b"), "The block is a number from 1"),
            (("9" * 30, "a", "EQUALS", "text", "b"), "The block is a number from 1"),
            (("٣", "a", "EQUALS", "text", "b"), "The block is a number from 1"),
            (("1", "", "EQUALS", "text", "b"), "What has to be known"),
            (("1", "a" * 201, "EQUALS", "text", "b"), "the key must be 1 to 200"),
            (("1", "a", "LIKE", "text", "b"), "How is it compared?"),
            (("1", "a", "EQUALS", "colour", "b"), "Of what kind"),
            (("1", "a", "EQUALS", "text", " \n "), "With which value"),
            (("1", "a", "EQUALS", "number", "b"), "b is no number"),
            (("1", "a", "EQUALS", "number", "NaN"), "a number must be finite"),
            (("1", "a", "EQUALS", "number", "1e999"), "a number must be finite"),
            (("1", "a", "EQUALS", "number", "9" * 5000), "is no number"),
            (("1", "a", "EQUALS", "number", "true"), "is no number"),
            (("1", "a", "EQUALS", "truth", "maybe"), "maybe is not yes or no"),
            (("1", "a", "EQUALS", "json", "[1]"), "is no text"),
            (("1", "a", "EQUALS", "json", "[" * 9999), "is no text"),
            (("1", "a", "EQUALS", "text", "b\0"), "without NUL"),
            (("1", "a", "EXISTS", "text", "b"), "The value is yes or no"),
            (("1", "a", "SEMVER_EQUALS", "text", "1"), "a version must be such as 1.2.3"),
            (("1", "a", "EQUALS", "text", "\n".join(map(str, range(1001)))), "at most 1000 values"),
        ],
    )
    def test_what_is_wrong_is_said_of_its_row(self, admin_client, row, wrong):
        campaign = make_campaign(groups=[{"targeting": GOLD}], live=False)
        url = address("variationgroup_change", campaign.groups.get().pk)
        good = ("1", "plan", "EQUALS", "text", "silver")
        response = save(admin_client, url, **typed([good, row]))
        [found] = errors(response)
        assert found.startswith("Condition 2: ")
        assert wrong in found
        # What was typed is still there.
        assert "silver" in response.content.decode()
        assert campaign.groups.get().targeting == GOLD

    @pytest.mark.parametrize(
        "targeting",
        [
            everybody(),
            GOLD,
            [[{"key": "a", "operator": "EQUALS", "value": ["one"]}]],
            [[{"key": "a", "operator": "EQUALS", "value": []}]],
            [[{"key": "a", "operator": "EQUALS", "value": ""}]],
            [[{"key": "a", "operator": "EQUALS", "value": " a\n b "}]],
            [[{"key": "a", "operator": "EQUALS", "value": [1, 1.0, 1e300, -0.0]}]],
            [[{"key": "a", "operator": "EQUALS", "value": [True, 1, "1", "yes"]}]],
            [[{"key": "a", "operator": "EQUALS", "value": [True, False]}]],
            [[{"key": "a", "operator": "NOT_EXISTS", "value": False}]],
            [[{"key": "fs_all_users", "operator": "EQUALS", "value": ""}, *GOLD[0]]],
            [*everybody(), *GOLD],
            [[{"key": f"k{i}", "operator": "EQUALS", "value": i}] for i in range(40)],
        ],
    )
    def test_to_save_it_as_it_is_changes_nothing(self, admin_client, targeting):
        campaign = make_campaign(groups=[{"targeting": targeting}])
        stored = json.dumps(campaign.groups.get().targeting)
        url = address("variationgroup_change", campaign.groups.get().pk)
        response = save(admin_client, url)
        assert response.redirect_chain
        # As it is stored: PostgreSQL puts keys into an order of its own.
        assert json.dumps(campaign.groups.get().targeting) == stored
        assert "All that is on this page is in force" in words(response.content.decode())

    @pytest.mark.parametrize(
        "value", ["a", ["a", "b"], 1, [1, 2.5], True, [True, 1, "x"], "", " a", ["a\nb", "c"], []]
    )
    def test_rows_and_back(self, value):
        told = [[{"key": "a", "operator": "EQUALS", "value": value}]]
        assert json.dumps(ConditionsField().clean(rows_of(told))) == json.dumps(told)

    def test_whether_something_is_known_is_yes_or_no(self):
        [row] = rows_of([[{"key": "a", "operator": "EXISTS", "value": False}]])
        assert (row.kind, row.values) == ("truth", "no")

    def test_more_conditions_than_there_are_rows_stay(self, admin_client):
        targeting = [
            [{"key": f"k{i}", "operator": "EQUALS", "value": i}] for i in range(MOST_ROWS + 1)
        ]
        campaign = make_campaign(groups=[{"targeting": targeting}], live=False)
        url = address("variationgroup_change", campaign.groups.get().pk)
        save(admin_client, url, name="Renamed", **typed([("1", "a", "EQUALS", "text", "b")]))
        group = campaign.groups.get()
        assert (group.name, group.targeting) == ("Renamed", targeting)

    def test_what_others_ask_for_is_offered(self, admin_client):
        campaign = make_campaign(groups=[{"targeting": GOLD}, {}])
        text = page(admin_client, "variationgroup_change", campaign.groups.last().pk)
        assert '<option value="plan"></option>' in text

    def test_hostile_text_is_text(self, admin_client):
        targeting = [[{"key": HOSTILE, "operator": "EQUALS", "value": HOSTILE}]]
        variations = [{"name": HOSTILE, "modifications": {HOSTILE: HOSTILE}}]
        campaign = make_campaign(
            name=HOSTILE,
            groups=[{"name": HOSTILE, "targeting": targeting, "variations": variations}],
        )
        make_assignment(campaign.groups.get().variations.get(), HOSTILE)
        pages = [
            ("campaign_changelist", ()),
            ("campaign_change", (campaign.pk,)),
            ("campaign_version", (campaign.pk, 1)),
            ("variationgroup_change", (campaign.groups.get().pk,)),
            ("assignment_changelist", ()),
        ]
        for name, args in pages:
            assert HOSTILE not in page(admin_client, name, *args)
        query = {"visitor": HOSTILE, "known": f"{HOSTILE} = {HOSTILE}"}
        assert HOSTILE not in page(admin_client, "campaign_explain", campaign.pk, **query)


def typed(rows):
    """Return what a browser sends for rows of conditions, and that all others are empty."""
    parts = ("block", "key", "operator", "kind", "values")
    found = {}
    for number in range(10):
        row = rows[number] if number < len(rows) else ("1", "", "EQUALS", "text", "")
        found |= {f"targeting_{number}_{part}": row[i] for i, part in enumerate(parts)}
    return found


class TestVariations:
    def change(self, client, campaign, **fields):
        url = address("variationgroup_change", campaign.groups.get().pk)
        return save(
            client, url, **{name.replace("_", "-", 2): each for name, each in fields.items()}
        )

    @pytest.mark.parametrize(
        ("typed", "wrong"),
        [
            ("{", "is not JSON at line 1"),
            ("[]", "must be an object"),
            ('{"a": 1, "a": 2}', "a must be given once"),
            ('{"b": 1e999}', "b must be a number"),
            ('{"c": NaN}', "NaN is no number"),
            ('{"e": ' + "[" * 100 + "]" * 100 + "}", "e is nested too deep"),
            # Some Pythons give up, and others find out that it never ends.
            ("[" * 5000, "is n"),
            ('{"d": ' + "9" * 5000 + "}", "has too long a number"),
            ("{" + " " * 17000 + "}", "must have at most"),
            ("", "This field is required."),
        ],
    )
    def test_what_is_wrong_with_modifications_is_said(self, admin_client, typed, wrong):
        campaign = make_campaign()
        response = self.change(admin_client, campaign, variations_1_modifications=typed)
        [found] = errors(response)
        assert wrong in found
        assert Variation.objects.get(name="Blue").modifications == '{"color": "blue"}'

    def test_numbers_stay_what_was_typed(self, admin_client):
        campaign = make_campaign()
        told = '{"one": 1, "same": 1.0, "much": 1.5e3, "on": true, "all": [1], "no": null}'
        response = self.change(admin_client, campaign, variations_1_modifications=told)
        assert Variation.objects.get(name="Blue").modifications == told
        text = words(response.content.decode())
        for each in (
            "one = 1 (whole number)",
            "same = 1.0 (decimal number)",
            "much = 1500.0 (decimal number)",
            "on = true (yes or no)",
            "all = [1] (list)",
            "no = null (empty)",
        ):
            assert each in text

    def test_not_more_than_a_hundred_percent(self, admin_client):
        campaign = make_campaign()
        response = self.change(admin_client, campaign, variations_1_allocation=51)
        assert errors(response) == ["The shares come to 101 %, and there are 100."]
        response = self.change(
            admin_client, campaign, variations_1_allocation=100, variations_0_retired="on"
        )
        assert response.redirect_chain

    def test_only_one_reference(self, admin_client):
        response = self.change(admin_client, make_campaign(), variations_1_is_reference="on")
        assert errors(response) == ["Only one variation can be the reference."]

    def test_another_one_without_script(self, admin_client):
        campaign = make_campaign()
        Variation.objects.filter(name="Blue").update(allocation=20)
        response = self.change(admin_client, campaign, variations_2_name="Green")
        assert response.redirect_chain
        green = Variation.objects.get(name="Green")
        assert (green.allocation, green.position) == (30, 2)

    def test_what_has_been_in_force_is_retired_not_deleted(self, admin_client):
        campaign = make_campaign()
        make_variation(campaign.groups.get(), name="Green", allocation=0, position=3)
        response = self.change(
            admin_client, campaign, variations_1_DELETE="on", variations_2_DELETE="on"
        )
        assert response.redirect_chain
        names = campaign.groups.get().variations.values_list("name", flat=True)
        assert list(names) == ["Original", "Blue"]

    def test_what_was_published_meanwhile_stays(self, admin_client, monkeypatch):
        campaign = make_campaign()
        make_variation(campaign.groups.get(), name="Green", allocation=0, position=3)
        locked = groups_admin.VariationFormSet.clean

        def published_meanwhile(formset):
            locked(formset)
            publishing.publish(campaign=campaign)

        monkeypatch.setattr(groups_admin.VariationFormSet, "clean", published_meanwhile)
        response = self.change(admin_client, campaign, variations_2_DELETE="on")
        assert response.status_code == 403
        assert Variation.objects.filter(name="Green").exists()

    def test_a_form_has_no_more_than_a_page_can_have(self, admin_client):
        url = address("variationgroup_change", make_campaign().groups.get().pk)
        sent = Filled(admin_client.get(url).content.decode()).sent
        answer = admin_client.post(url, {**sent, "variations-TOTAL_FORMS": "99999"})
        [shown] = answer.context["inline_admin_formsets"]
        assert len(shown.formset.forms) == groups_admin.MOST
        assert "Please submit at most" in answer.content.decode()
        assert Variation.objects.count() == 2

    @pytest.mark.parametrize("junk", JUNK)
    def test_junk_is_answered(self, admin_client, junk):
        campaign = make_campaign()
        url = address("variationgroup_change", campaign.groups.get().pk)
        form = admin_client.get(url).content.decode()
        names = [name for name in Filled(form).sent if "csrf" not in name]
        for name in names:
            # Of several rows one has it: the others are read likewise.
            if re.search("-[1-9][0-9]*-", name):
                continue
            sent = {**Filled(form).sent, name: junk}
            assert admin_client.post(url, sent).status_code in (200, 302), name
        assert admin_client.post(url, dict.fromkeys(names, junk)).status_code in (200, 302)


class TestGroups:
    def test_another_group(self, admin_client):
        campaign = make_campaign(live=False)
        url = f"{address('variationgroup_add')}?campaign={campaign.pk}"
        response = save(
            admin_client,
            url,
            name="Gold",
            **{
                **typed([("1", "plan", "EQUALS", "text", "gold")]),
                "variations-0-name": "A",
                "variations-0-modifications": '{"a": 1}',
                "variations-1-name": "B",
            },
        )
        assert response.redirect_chain == [(address("campaign_change", campaign.pk), 302)]
        group = campaign.groups.last()
        assert (group.name, group.position, group.targeting) == ("Gold", 1, GOLD)
        assert list(group.variations.values_list("name", "allocation")) == [("A", 50), ("B", 50)]

    @pytest.mark.parametrize("junk", JUNK)
    def test_a_group_of_no_campaign_is_none(self, admin_client, junk):
        url = address("variationgroup_add")
        for response in (
            admin_client.get(url, {"campaign": junk}),
            admin_client.post(f"{url}?x=1", {"name": "x"}),
        ):
            assert (response.status_code, response["location"]) == (
                302,
                address("campaign_changelist"),
            )

    def test_what_has_been_in_force_is_not_deleted(self, admin_client):
        campaign = make_campaign()
        new = make_group(campaign, name="New")
        old = campaign.groups.first()
        response = admin_client.get(address("variationgroup_delete", old.pk), follow=True)
        assert "cannot be deleted" in told(response)[-1]
        admin_client.post(address("variationgroup_delete", old.pk), {"post": "yes"})
        response = admin_client.post(address("variationgroup_delete", new.pk), {"post": "yes"})
        assert response["location"] == address("campaign_change", campaign.pk)
        assert list(campaign.groups.all()) == [old]

    def test_it_is_no_list_of_the_index(self, admin_client):
        text = admin_client.get("/admin/").content.decode()
        assert address("campaign_changelist") in text
        assert address("variationgroup_changelist") not in text


class TestVersions:
    def test_each_says_who_saw_what(self, admin_client):
        campaign = make_campaign(groups=[{"targeting": GOLD, "name": "Gold"}])
        Variation.objects.filter(name="Blue").update(
            allocation=30, modifications='{"color": "navy", "size": 2}'
        )
        publishing.publish(campaign=campaign, by=make_user("anna"))
        text = said(admin_client, "campaign_change", campaign.pk)
        assert "Version 2 (the last one)" in text
        assert "anna" in text
        first = said(admin_client, "campaign_version", campaign.pk, 1)
        assert "It was the first." in first
        assert "plan is “gold”" in first
        assert "Blue 50 % color = blue (text)" in first
        second = said(admin_client, "campaign_version", campaign.pk, 2)
        assert "“Gold”: “Blue” has 30 % in place of 50 %." in second
        assert "“Gold”, “Blue”: size is 2; it was not set." in second
        assert "“Gold”: 20 of a hundred visitors see nothing any more." in second
        assert "see nothing of it: 20 %" in second

    @pytest.mark.parametrize("number", ["0", "2", "x", "-1", "9" * 30, "٣"])
    def test_there_is_no_other(self, admin_client, number):
        campaign = make_campaign()
        assert admin_client.get(address("campaign_version", campaign.pk, number)).status_code == 404

    @pytest.mark.parametrize("junk", ["x", "-1", "0", "9" * 30, "٣", "_00"])
    def test_of_no_campaign(self, admin_client, junk):
        assert admin_client.get(address("campaign_version", junk, 1)).status_code == 404
        assert admin_client.get(address("campaign_explain", junk)).status_code == 404


class TestExplaining:
    def ask(self, client, campaign, **query):
        return said(client, "campaign_explain", campaign.pk, **{"visitor": "visitor-1", **query})

    def test_conditions_with_a_tick_or_a_cross(self, admin_client):
        targeting = [
            [*GOLD[0], {"key": "orders", "operator": "GREATER_THAN", "value": 3}],
            [{"key": "fs_users", "operator": "EQUALS", "value": "tester"}],
        ]
        groups = [{"name": "Gold", "targeting": targeting}, {"name": "Others"}]
        campaign = make_campaign(groups=groups)
        text = self.ask(admin_client, campaign, known="plan = gold\norders = 3")
        assert "✓ Yes: plan is “gold” ✗ No: orders is greater than 3" in text
        assert "✗ No: the visitor’s id is “tester”" in text
        assert "They are not meant. The next group is asked." in text
        assert "of “Others”, whose bucket" in text
        text = self.ask(admin_client, campaign, known="plan = gold\norders = 4")
        assert "of “Gold”, whose bucket" in text
        assert "Not asked any more: Others" in text
        # A text is no number.
        text = self.ask(admin_client, campaign, known='plan = gold\norders = "4"')
        assert "of “Others”, whose bucket" in text

    @pytest.mark.parametrize(
        ("known", "wrong"),
        [
            ("plan", "“plan” is not such as plan = gold."),
            ("= gold", "“= gold” is not such"),
            ("a = b\n" * 201, "At most 200 lines"),
        ],
    )
    def test_what_is_wrong_is_said(self, admin_client, known, wrong):
        text = self.ask(admin_client, make_campaign(), known=known)
        assert wrong in text
        assert "Sees" not in text

    def test_what_was_seen_before_and_by_which_version(self, admin_client):
        campaign = make_campaign(groups=[{"variations": [{**BLUE, "allocation": 100}]}])
        assert "whose bucket" in self.ask(admin_client, campaign)
        make_assignment(campaign.groups.get().variations.get(), is_mixed=True)
        Variation.objects.update(allocation=0)
        publishing.publish(campaign=campaign)
        text = self.ask(admin_client, campaign)
        assert "Sees “Blue” of “Everybody”, as they have seen it before." in text
        assert "By version 2." in text
        assert "version 1 , then for: everybody" in text
        assert "(saw others, too)" in text
        text = self.ask(admin_client, campaign, visitor="visitor-2")
        assert "Nothing is stored of them" in text
        assert "Sees nothing of it, as their bucket is no variation’s." in text
        Variation.objects.update(retired=True)
        make_variation(campaign.groups.get(), name="Green")
        publishing.publish(campaign=campaign)
        assert "what they have seen in “Everybody” is retired" in self.ask(admin_client, campaign)

    def test_a_draft_that_cannot_be_shown(self, admin_client):
        campaign = make_campaign(groups=[], live=False)
        text = self.ask(admin_client, campaign)
        assert "it cannot be shown as it is" in text
        assert "there must be one at least" in text

    def test_what_is_shown_to_nobody_is_said(self, admin_client):
        campaign = make_campaign(live=False)
        assert "It is a draft: nobody sees it." in self.ask(admin_client, campaign)
        publishing.start(campaign=campaign)
        assert "nobody sees" not in self.ask(admin_client, campaign)
        publishing.set_panic(prop=campaign.property, panic=True)
        assert "Panic is switched on" in self.ask(admin_client, campaign)

    def test_nothing_is_written(self, admin_client):
        campaign = make_campaign()
        page(admin_client, "campaign_explain", campaign.pk)
        self.ask(admin_client, campaign, anonymous="anonymous-1")
        assert not Assignment.objects.exists()

    @pytest.mark.parametrize("junk", JUNK)
    def test_junk_is_answered(self, admin_client, junk):
        campaign = make_campaign(groups=[{"targeting": GOLD}])
        for name in ("visitor", "anonymous", "known"):
            self.ask(admin_client, campaign, **{name: junk})
        for known in (f"a = {junk}", f"{junk} = a", "a = NaN", "a = 1e999", "a = " + "[" * 9999):
            self.ask(admin_client, campaign, known=known)


class TestEnvironments:
    def test_panic_and_its_end(self, admin_client):
        campaign = make_campaign(name="Green")
        make_campaign(campaign.property, name="Draft", live=False)
        environment = Environment.objects.get()
        asked = act(admin_client, "panic_on", environment, model="environment")
        text = words(asked.content.decode())
        assert "nobody sees any variation" in text
        assert "1 live campaign: Green" in text
        environment.refresh_from_db()
        assert not environment.panic
        assert live.of_property(campaign.property_id).panic is False
        confirm(admin_client, "panic_on", environment, model="environment")
        assert live.of_property(campaign.property_id).panic is True
        assert "panic: nobody sees anything" in said(admin_client, "environment_changelist")
        response = admin_client.get(address("environment_change", environment.pk))
        assert [name for name, _text in response.context["buttons"]] == ["panic_off"]
        response = act(admin_client, "panic_on", environment, model="environment")
        assert told(response) == ["It is so already: nothing was done."]
        confirm(admin_client, "panic_off", environment, model="environment")
        assert live.of_property(campaign.property_id).panic is False
        assert LogEntry.objects.count() == 2

    def test_nobody_adds_or_deletes_one(self, admin_client):
        make_campaign()
        environment = Environment.objects.get()
        for name, args in (("environment_add", ()), ("environment_delete", (environment.pk,))):
            assert admin_client.post(address(name, *args), {"post": "yes"}).status_code == 403


class TestExclusions:
    def test_who_holds_what(self, admin_client):
        prop = make_property()
        exclusion = make_exclusion(prop, name="Checkout")
        make_campaign(prop, name="Green", exclusion=exclusion, exclusion_share=30)
        make_campaign(prop, name="Draft", exclusion=exclusion, exclusion_share=20, live=False)
        text = said(admin_client, "exclusion_change", exclusion.pk)
        assert "Green: 30 %" in text
        assert "nobody’s: 70 %" in text
        assert "Green live 30 % 30 %" in text
        assert "Draft draft – 20 %" in text
        assert "Checkout: Green 30 %, nothing 70 %" in said(admin_client, "exclusion_changelist")

    def test_add_and_rename(self, admin_client):
        prop = make_property()
        form = {"property": prop.pk, "name": "Checkout"}
        admin_client.post(address("exclusion_add"), form)
        exclusion = Exclusion.objects.get()
        assert (exclusion.property, exclusion.name) == (prop, "Checkout")
        url = address("exclusion_change", exclusion.pk)
        admin_client.post(url, {"name": "Cart", "property": make_property().pk})
        exclusion.refresh_from_db()
        assert (exclusion.property, exclusion.name) == (prop, "Cart")

    def test_to_rename_it_shares_nothing_out(self, admin_client, monkeypatch):
        prop = make_property()
        exclusion = make_exclusion(prop)
        draft = make_campaign(prop, exclusion=exclusion, live=False)
        saved = exclusions_admin.ExclusionAdmin.save_form

        def started_meanwhile(*args, **kwargs):
            publishing.start(campaign=draft)
            return saved(*args, **kwargs)

        monkeypatch.setattr(exclusions_admin.ExclusionAdmin, "save_form", started_meanwhile)
        admin_client.post(address("exclusion_change", exclusion.pk), {"name": "Cart"})
        exclusion.refresh_from_db()
        assert (exclusion.name, exclusion.left()) == ("Cart", 50)

    def test_what_is_used_stays(self, admin_client):
        prop = make_property()
        used, free = make_exclusion(prop), make_exclusion(prop)
        publishing.archive(campaign=make_campaign(prop, exclusion=used))
        for each in (used, free):
            url = address("exclusion_delete", each.pk)
            response = admin_client.post(url, {"post": "yes"}, follow=True)
            assert ("it cannot be deleted" in told(response)[0]) == (each == used)
        assert list(Exclusion.objects.all()) == [used]


class TestAssignments:
    def listed(self, client, **query):
        text = page(client, "assignment_changelist", **query)
        return sorted(re.findall(r'field-who"><a[^>]*>([^<]+)<', text))

    def test_filters_and_search(self, admin_client):
        one, other = make_campaign(), make_campaign()
        original, blue = one.groups.get().variations.all()
        make_assignment(original, "anna")
        make_assignment(blue, "bert", is_mixed=True)
        make_assignment(other.groups.get().variations.first(), "carl", exposed_on=None)
        say(one.property, "client:anna email:anna@example.com")
        within = {"campaign__id__exact": one.pk}
        for query, names in (
            ({}, ["anna", "bert", "carl"]),
            (within, ["anna", "bert"]),
            ({**within, "variation": blue.pk}, ["bert"]),
            ({"mixed": "yes"}, ["bert"]),
            ({**within, "mixed": "no"}, ["anna"]),
            ({"q": "anna"}, ["anna"]),
            ({"q": "anna@example.com"}, ["anna"]),
            ({"q": "ann"}, []),
            ({"q": "nobody"}, []),
        ):
            assert self.listed(admin_client, **query) == names, query

    def test_nothing_is_counted_whole(self, admin_client):
        make_assignment(make_campaign().groups.get().variations.first())
        with CaptureQueriesContext(connection) as asked:
            page(admin_client, "assignment_changelist")
        counts = [each["sql"] for each in asked if "COUNT(" in each["sql"]]
        assert counts
        assert all("LIMIT" in each for each in counts)

    def test_it_is_there_to_look_at(self, admin_client):
        variation = make_campaign().groups.get().variations.first()
        assignment = make_assignment(variation, "anna", partner=make_partner(name="Bikes"))
        text = said(admin_client, "assignment_change", assignment.pk)
        for each in ("anna", "Original", "Bikes"):
            assert each in text
        for name, args in (("add", ()), ("delete", (assignment.pk,))):
            url = address(f"assignment_{name}", *args)
            assert admin_client.post(url, {"post": "yes"}).status_code == 403

    def test_a_name_that_is_gone(self, admin_client):
        assignment = make_assignment(make_campaign().groups.get().variations.first())
        partner = make_partner()
        Assignment.objects.update(identity=10**9, partner=partner.pk)
        partner.delete()
        assert self.listed(admin_client) == ["–"]
        assert "–" in said(admin_client, "assignment_change", assignment.pk)
