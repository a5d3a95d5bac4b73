"""Fill the demo's database: products, staff, and a deal with one partner."""

from __future__ import annotations

from decimal import Decimal
from urllib.parse import urlsplit

from django.contrib.auth.models import User
from django.db import transaction

from affiliations import signing
from affiliations.conf import settings
from affiliations.models import Partner, Subscription

from .partner_site.models import Deal
from .shop.models import Glaze, Picture, Product

PARTNER = "Blog of Anna"
STAFF = "admin"
CALLBACK_PATH = "/partner-site/callback/"

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


@transaction.atomic
def prepare(url: str) -> Partner:
    """Make what is missing in the database of a shop that is served at `url`.

    What is there stays as it is, except that the partner's addresses follow the shop's port.
    """
    for product in PRODUCTS:
        Product.objects.get_or_create(slug=product["slug"], defaults=product)
    if not User.objects.filter(username=STAFF).exists():
        User.objects.create_superuser(STAFF, password=STAFF)
    partner = Partner.objects.filter(name=PARTNER).order_by("pk").first()
    if partner is None:
        partner = Partner.objects.create(name=PARTNER, active=True)
        for trigger, rest in SUBSCRIPTIONS.items():
            subscribe(partner, trigger, url + CALLBACK_PATH + rest)
    for subscription in partner.subscriptions.all():
        move(subscription, url)
    tell_partner(partner, url)
    return partner


def subscribe(partner: Partner, trigger: str, callback_url: str) -> None:
    """Let the partner be told of a trigger."""
    Subscription.objects.create(partner=partner, trigger=trigger, callback_url=callback_url)


def move(subscription: Subscription, url: str) -> None:
    """Let a callback URL that leads to the demo's own partner site follow it to another port."""
    parts = urlsplit(subscription.callback_url)
    here = urlsplit(url)
    ours = parts.hostname == here.hostname and parts.path.startswith(CALLBACK_PATH)
    if ours and parts.netloc != here.netloc:
        subscription.callback_url = parts._replace(netloc=here.netloc).geturl()
        subscription.save()


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
