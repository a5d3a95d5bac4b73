"""Staff name the sites, hand out secrets, and look at who did what."""

import re
from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from affiliations.money import Money
from affiliations.tracking.models import EventType, Hit, Property
from tests.core.factories import make_user
from tests.tracking.factories import hit, make_event_type, make_property, say

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(admin_client):
    return admin_client


def url(name, *args):
    return reverse(f"admin:affiliations_tracking_{name}", args=args)


def page(client, name, *args, **query):
    answer = client.get(url(name, *args), query)
    assert answer.status_code == 200
    return unescape(re.sub(r"\s+", " ", answer.content.decode()))


def form(**fields):
    rows = {
        "event_types-TOTAL_FORMS": "1",
        "event_types-INITIAL_FORMS": "0",
        "event_types-0-key": "",
        "event_types-0-name": "",
    }
    return {"name": "Shop", "active": "on", "origins": "", "keep_days": "", **rows, **fields}


def secret_in(answer):
    found = [
        each
        for each in re.findall(r"[A-Za-z0-9]{43}", answer.content.decode())
        if Property.objects.get().is_secret(each)
    ]
    assert found
    return found[0]


# Properties


def test_a_property_is_made_and_its_secret_shown_once(staff):
    told = form(
        origins="https://blog.example/\n https://Other.example",
        keep_days="400",
        **{"event_types-0-key": "purchase", "event_types-0-name": "Purchase"},
    )
    answer = staff.post(url("property_add"), told)
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    made = Property.objects.get()
    secret = secret_in(answer)
    assert made.public_key in answer.content.decode()
    assert (made.name, made.keep_days, made.active) == ("Shop", 400, True)
    assert made.origins == ["https://blog.example", "https://other.example"]
    assert EventType.objects.get().key == "purchase"
    for shown in (page(staff, "property_change", made.pk), page(staff, "property_changelist")):
        assert secret not in shown
        assert made.public_key in shown
    assert made.digest not in page(staff, "property_change", made.pk)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "This field is required."),
        ({"origins": "blog.example"}, "'blog.example' is no origin, such as https://shop.example"),
        ({"origins": "https://a.example/path"}, "is no origin"),
        ({"keep_days": "0"}, "greater than or equal to 1"),
        ({"event_types-0-key": "a b", "event_types-0-name": "x"}, "Only letters, digits"),
        ({"event_types-0-key": "a"}, "This field is required."),
    ],
)
def test_what_is_typed_wrong_is_said(staff, fields, said):
    answer = staff.post(url("property_add"), form(**fields))
    assert said in unescape(answer.content.decode())
    assert not Property.objects.exists()


def test_a_property_is_changed_and_its_keys_stay(staff):
    made, secret = Property.objects.issue(name="Shop", origins=["https://blog.example"])
    kind = make_event_type(made)
    told = form(
        name="Market",
        active="",
        **{
            "event_types-INITIAL_FORMS": "1",
            "event_types-0-id": str(kind.pk),
            "event_types-0-property": str(made.pk),
            "event_types-0-key": "sale",
            "event_types-0-name": "Sale",
        },
    )
    assert staff.post(url("property_change", made.pk), told).status_code == 302
    changed = Property.objects.get()
    assert (changed.name, changed.active, changed.origins) == ("Market", False, [])
    assert changed.public_key == made.public_key
    assert changed.is_secret(secret)
    kind.refresh_from_db()
    assert (kind.key, kind.name) == ("sale", "Sale")


def test_another_secret(staff):
    made, secret = Property.objects.issue(name="Shop")
    told = {"action": "renew", "_selected_action": [made.pk]}
    asked = staff.post(url("property_changelist"), told)
    assert "Make a new secret?" in asked.content.decode()
    assert Property.objects.get().is_secret(secret)
    answer = staff.post(url("property_changelist"), {**told, "confirmed": "yes"})
    assert secret_in(answer) != secret
    assert not Property.objects.get().is_secret(secret)
    other = make_property()
    answer = staff.post(
        url("property_changelist"), {**told, "_selected_action": [made.pk, other.pk]}, follow=True
    )
    assert "one at a time" in answer.content.decode()


def test_a_property_of_which_something_is_known_stays(staff):
    made, empty = make_property(), make_property()
    say(made, "client:42")
    answer = staff.post(url("property_delete", made.pk), {"post": "yes"}, follow=True)
    assert "it cannot be deleted" in answer.content.decode()
    assert staff.post(url("property_delete", empty.pk), {"post": "yes"}).status_code == 302
    assert list(Property.objects.all()) == [made]


@pytest.mark.parametrize(
    ("codenames", "may"),
    [
        ([], set()),
        (["view_property"], {"list", "page"}),
        (["add_property"], {"add"}),
        (["view_property", "change_property"], {"list", "page", "renew"}),
        (["view_property", "delete_property"], {"list", "page", "delete"}),
    ],
)
def test_who_may_do_what(client, codenames, may):
    made, secret = Property.objects.issue(name="Shop")
    user = make_user()
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    assert (client.get(url("property_changelist")).status_code == 200) == ("list" in may)
    assert (client.get(url("property_change", made.pk)).status_code == 200) == ("page" in may)
    assert (client.get(url("property_add")).status_code == 200) == ("add" in may)
    client.post(
        url("property_changelist"),
        {"action": "renew", "_selected_action": [made.pk], "confirmed": "yes"},
    )
    assert Property.objects.get().is_secret(secret) == ("renew" not in may)
    assert (client.get(url("property_delete", made.pk)).status_code == 200) == ("delete" in may)


# Customers and hits


@pytest.fixture
def shop():
    return make_property(name="Shoe shop")


def test_a_customer_is_found_by_any_name(staff, shop):
    hit(shop, "cookie:c1 client:anna@example.com", url="https://shop.example/shoes")
    say(shop, "client:bert")
    listed = page(staff, "customer_changelist", q="anna@example.com")
    assert "c1" in listed
    assert "bert" not in listed
    assert "c1" in page(staff, "customer_changelist")
    assert "0 results" in page(staff, "customer_changelist", q="nobody")


def test_the_page_of_a_customer(staff, shop):
    purchase = make_event_type(shop, "purchase", name="Bought something")
    hit(shop, "cookie:c1 client:42", url="https://shop.example/<b>shoes</b>")
    hit(
        shop,
        "client:42",
        type="event",
        event_type_id=purchase.pk,
        value=Money(1990, "EUR"),
    )
    raw = staff.get(url("customer_change", Hit.objects.first().identity.customer_id))
    assert "<b>shoes" not in raw.content.decode()
    shown = page(staff, "customer_change", Hit.objects.first().identity.customer_id)
    for each in ("Shoe shop", "c1", "42", "Bought something", "19.90 EUR", "shop.example/"):
        assert each in shown


def test_many_names_and_hits_are_cut(staff, shop):
    say(shop, " ".join(f"cookie:c{number}" for number in range(99)))
    say(shop, "cookie:c0 cookie:more cookie:most")
    for _ in range(51):
        hit(shop, "cookie:c0")
    customer = Hit.objects.first().identity.customer_id
    shown = page(staff, "customer_change", customer)
    assert "and more" in shown
    assert "All of it" in shown
    assert len(re.findall(r"/hit/[0-9]+/change/", shown)) == 50
    assert "and 97 more" in page(staff, "customer_changelist")


def test_hits_are_listed(staff, shop):
    hit(shop, "cookie:c1 client:42", url="https://shop.example/?utm_source=bing&utm_medium=cpc")
    hit(shop, "client:other", type="transaction", value=Money(500, "JPY"))
    listed = page(staff, "hit_changelist")
    for each in ("paid search", "500 JPY", "transaction"):
        assert each in listed
    # All of the person's, whichever of the names is asked for.
    listed = page(staff, "hit_changelist", q="42")
    assert "paid search" in listed
    assert "500 JPY" not in listed
    assert "paid search" in page(staff, "hit_changelist", property__id__exact=shop.pk)
    assert "0 results" in page(staff, "hit_changelist", property__id__exact=make_property().pk)


def test_the_page_of_a_hit(staff, shop):
    hit(
        shop,
        "cookie:c1",
        url="https://shop.example/",
        referrer="https://www.bing.com/",
        title="<i>Shoes</i>",
        meta={"agent": "<script>"},
        transaction_id="R-1",
    )
    raw = staff.get(url("hit_change", Hit.objects.get().pk)).content.decode()
    assert '<script>"' not in raw
    assert "<i>Shoes" not in raw
    shown = unescape(raw)
    for each in ("Shoe shop", "c1", "https://www.bing.com/", "R-1", "organic search", '"agent"'):
        assert each in shown


@pytest.mark.parametrize("name", ["customer", "hit"])
def test_nobody_edits_what_happened(staff, shop, name):
    hit(shop, "cookie:c1")
    row = Hit.objects.get()
    pk = row.pk if name == "hit" else row.identity.customer_id
    assert staff.get(url(f"{name}_add")).status_code == 403
    assert staff.post(url(f"{name}_change", pk), {"title": "x"}).status_code == 403
    assert staff.post(url(f"{name}_delete", pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("name", ["customer", "hit"])
def test_a_list_takes_as_many_queries_for_many(staff, shop, django_assert_max_num_queries, name):
    for number in range(30):
        hit(shop, f"cookie:c{number} client:{number + 1}", url=f"https://shop.example/{number}")
    with django_assert_max_num_queries(11):
        page(staff, f"{name}_changelist")
