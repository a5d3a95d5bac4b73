"""Fill the demo's database: products, staff, and deals with a partner and with a network."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.signals import setting_changed
from django.db import transaction

from affiliations import signing
from affiliations.conf import settings
from affiliations.experiments import publishing
from affiliations.experiments.models import Campaign, Variation, VariationGroup
from affiliations.links.models import Link
from affiliations.links.services import generate_link
from affiliations.models import Partner, Subscription
from affiliations.referrals.models import Program
from affiliations.tracking.models import EventType, Property

from . import earnings
from .network.models import Offer
from .partner_site.models import Deal
from .shop.models import Glaze, Picture, Product

PARTNER = "Blog of Anna"
STAFF = "admin"
CALLBACK_PATH = "/partner-site/callback/"
NETWORK = "Fairlead"
SHOP = "Harbour Kiln"
ROUTER_PATH = "/router/"
POSTBACK_PATH = "/network/aff_lsr"

PRODUCTS = (
    {
        "slug": "morning-mug",
        "name": "Morning mug",
        "price": Decimal("24.00"),
        "picture": Picture.MUG,
        "glaze": Glaze.TIDE,
        "description": "Heavier than it looks, and it stays where it is put. Holds 350 ml.",
    },
    {
        "slug": "rain-teapot",
        "name": "Rain teapot",
        "price": Decimal("68.00"),
        "picture": Picture.TEAPOT,
        "glaze": Glaze.MOSS,
        "description": "Pours without a drop on the table: four small cups, or two honest ones.",
    },
    {
        "slug": "salt-bowl",
        "name": "Salt bowl",
        "price": Decimal("32.00"),
        "picture": Picture.BOWL,
        "glaze": Glaze.SAND,
        "description": "Wide enough for salad, deep enough for soup. The glaze is driftwood ash.",
    },
    {
        "slug": "reed-vase",
        "name": "Reed vase",
        "price": Decimal("54.00"),
        "picture": Picture.VASE,
        "glaze": Glaze.EMBER,
        "description": "A narrow neck for few stems, and a heavy body against the wind.",
    },
    {
        "slug": "pebble-plate",
        "name": "Pebble plate",
        "price": Decimal("28.00"),
        "picture": Picture.PLATE,
        "glaze": Glaze.SLATE,
        "description": "Flat and matt: for bread in the morning, and cheese at night.",
    },
    {
        "slug": "dusk-cup",
        "name": "Dusk cup",
        "price": Decimal("18.00"),
        "picture": Picture.CUP,
        "glaze": Glaze.PLUM,
        "description": "Espresso in two sips. With its saucer, because the spoon needs a place.",
    },
)

#: Which of the shop's triggers the partner wants to be told of, and where below CALLBACK_PATH.
SUBSCRIPTIONS = {
    "User registered": "registration/{visitor_id}/?link={sub1}",
    "Order placed": (
        "order/{visitor_id}/?order={reference}&amount={amount}&currency={currency}&link={sub1}"
    ),
}


#: What the network pays publishers for, by the path of the shop's link that an offer leads to.
OFFERS: dict[str, dict[str, Any]] = {
    "xfghjde45": {
        "offer_id": 318,
        "name": "Rain teapot",
        "percent": 8,
        "item": "rain-teapot",
        "landing_page": "/products/rain-teapot/",
        "floor": 20,
    },
    "WTY76R": {
        "offer_id": 319,
        "name": "Teapot, shop front",
        "percent": 10,
        "item": "rain-teapot",
        "landing_page": "/",
        "floor": 20,
    },
    "dusk-cup": {
        "offer_id": 320,
        "name": "Dusk cup",
        "percent": 12,
        "item": "dusk-cup",
        "landing_page": "/products/dusk-cup/",
        "floor": 0,
    },
}
#: What customers get for bringing friends, and these.
FRIENDS: dict[str, Any] = {
    "name": "Friends of Harbour Kiln",
    "currency": "EUR",
    "credit_minor": 5_00,
    "target_minor": 60_00,
    "reward_minor": 10_00,
}
#: Public keys of the shop's property and of its event; staff see them in the admin.
PROPERTY = django_settings.AFFILIATE_TRACKING_PROPERTY
PURCHASE = "purchase"
#: The experiment: what the button of a product says, of which the first was there before.
EXPERIMENT, FLAG = "order-button", "order-button"
BUTTONS = ("Order now", "Yes, I want it")
BILLING = "AFFILIATE_REFERRALS_BILLING_URL"
#: What the network fills in where a click leads to a link, and the shop where it reports a sale.
CLICK = "transaction_id={transaction_id}&offer_id={offer_id}&aff_id={aff_id}&aff_sub={aff_sub}"
SALE = (
    "transaction_id={transaction_id}&amount={amount}&adv_sub={adv_sub}"
    "&conversion_unique_id={conversion_unique_id}&security_token={security_token}"
)


@transaction.atomic
def prepare(url: str, *, past: bool = False) -> None:
    """Make what is missing in the database of a shop that is served at `url`.

    What is there stays as it is, except that addresses of the demo's own follow the shop's port.
    With a `past` a shop where nothing has happened yet gets some months of it.
    """
    for product in PRODUCTS:
        Product.objects.get_or_create(slug=product["slug"], defaults=product)
    if not User.objects.filter(username=STAFF).exists():
        User.objects.create_superuser(STAFF, password=STAFF)
    partner = prepare_partner(url)
    prepare_network(url)
    prepare_friends(url)
    prepare_tracking()
    prepare_experiment()
    earnings.prepare(partner, past=past)


def prepare_friends(url: str) -> None:
    """Promise something to customers who bring friends, and to these."""
    if not Program.objects.exists():
        Program.objects.create(**FRIENDS)
    # The settings name the usual port.
    parts = urlsplit(getattr(django_settings, BILLING))._replace(netloc=urlsplit(url).netloc)
    setattr(django_settings, BILLING, parts.geturl())
    setting_changed.send(Program, setting=BILLING, value=parts.geturl(), enter=True)


def prepare_tracking() -> None:
    """Make the property that the shop is. Its secret is made anew in the admin, and shown there."""
    if not Property.objects.filter(public_key=PROPERTY).exists():
        prop, _ = Property.objects.issue(name=SHOP, public_key=PROPERTY)
        EventType.objects.create(property=prop, key=PURCHASE, name="Purchase", public_key=PURCHASE)


def prepare_experiment() -> None:
    """Show half of the customers another button."""
    prop = Property.objects.get(public_key=PROPERTY)
    if Campaign.objects.filter(property=prop, slug=EXPERIMENT).exists():
        return
    campaign = Campaign.objects.create(property=prop, slug=EXPERIMENT, name="Order button")
    group = VariationGroup.objects.create(campaign=campaign, name="Everybody")
    for text in BUTTONS:
        Variation.objects.create(
            group=group,
            name=text,
            allocation=50,
            is_reference=text == BUTTONS[0],
            modifications=json.dumps({FLAG: text}),
        )
    publishing.start(campaign=campaign)


def prepare_partner(url: str) -> Partner:
    """Make a deal with a partner who is told of what the visitors from their own site do."""
    partner = Partner.objects.filter(name=PARTNER).order_by("pk").first()
    if partner is None:
        partner = Partner.objects.create(name=PARTNER, active=True)
        for trigger, rest in SUBSCRIPTIONS.items():
            subscribe(partner, trigger, url + CALLBACK_PATH + rest)
    for subscription in partner.subscriptions.all():
        move(subscription, url, callback_url=CALLBACK_PATH)
    tell_partner(partner, url)
    return partner


def subscribe(partner: Partner, trigger: str, callback_url: str) -> None:
    """Let the partner be told of a trigger."""
    Subscription.objects.create(partner=partner, trigger=trigger, callback_url=callback_url)


def move(row: Subscription | Link, url: str, **below: str) -> None:
    """Let addresses that lead below these paths of the demo's own follow it to another port."""
    here, changed = urlsplit(url), False
    for field, path in below.items():
        parts = urlsplit(getattr(row, field))
        ours = parts.hostname == here.hostname and parts.path.startswith(path)
        if ours and parts.netloc != here.netloc:
            setattr(row, field, parts._replace(netloc=here.netloc).geturl())
            changed = True
    if changed:
        row.save()


def tell_partner(partner: Partner, url: str) -> None:
    """Hand the partner what they need, as staff would by mail: an address, a uid and a secret."""
    Deal.objects.update_or_create(
        name=PARTNER,
        defaults={
            "shop_url": url,
            "query_key": settings.QUERY_STRING_KEY,
            "uid": partner.uid,
            "secret": signing.encode_secret(partner.signing_secrets()[0]),
        },
    )


def prepare_network(url: str) -> None:
    """Make a deal with a network, and what it needs: a link for each offer, and the token."""
    partner = Partner.objects.filter(name=NETWORK).order_by("pk").first()
    if partner is None:
        partner = Partner.objects.create(name=NETWORK, active=True)
    for path, offer in OFFERS.items():
        # One that staff have deleted is there as well: its path is never given out again.
        if not Link.objects.filter(path=path).exists():
            generate_link(
                path=path,
                item_id=offer["item"],
                landing_page=url + offer["landing_page"],
                callback_url=f"{url}{POSTBACK_PATH}?{SALE}",
                floor=offer["floor"],
                partner=partner,
            )
    for link in partner.links.all():
        move(link, url, landing_page="/", callback_url=POSTBACK_PATH)
    tell_network(url)


def tell_network(url: str) -> None:
    """Enter the offers at the network as the shop's staff would, and its token in our settings."""
    tokens = django_settings.AFFILIATE_CALLBACK_TOKENS
    token = next(iter(tokens.values()))
    # The settings name the usual port.
    tokens[urlsplit(url).netloc] = token
    for path, offer in OFFERS.items():
        Offer.objects.update_or_create(
            offer_id=offer["offer_id"],
            defaults={
                "advertiser": SHOP,
                "name": offer["name"],
                "percent": offer["percent"],
                "url": f"{url}{ROUTER_PATH}{path}?{CLICK}",
                "security_token": token,
            },
        )
