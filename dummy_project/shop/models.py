"""Products and orders."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils.crypto import get_random_string


def new_number() -> str:
    """Return an order number that tells nobody how many orders there are."""
    return "HK" + get_random_string(7, "23456789ABCDEFGHJKLMNPQRSTUVWXYZ")


class Picture(models.TextChoices):
    """What a product looks like; each is a drawing in templates/shop/pictures/."""

    MUG = "mug"
    TEAPOT = "teapot"
    BOWL = "bowl"
    VASE = "vase"
    PLATE = "plate"
    CUP = "cup"


class Glaze(models.TextChoices):
    """The colour of a product; each is a class in static/demo.css."""

    TIDE = "tide"
    MOSS = "moss"
    SAND = "sand"
    EMBER = "ember"
    SLATE = "slate"
    PLUM = "plum"


class Product(models.Model):
    """Something to buy."""

    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)
    description = models.TextField(blank=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    currency = models.CharField(max_length=3, default="EUR")
    picture = models.CharField(max_length=10, choices=Picture.choices, default=Picture.MUG)
    glaze = models.CharField(max_length=10, choices=Glaze.choices, default=Glaze.TIDE)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:product", args=[self.slug])

    @property
    def picture_template(self) -> str:
        """The template that draws the product."""
        return f"shop/pictures/{self.picture}.svg"


class Order(models.Model):
    """One product that a user bought, at the price of that day.

    Nothing in here knows of affiliates: `AFFILIATE_TRIGGERS` in the settings says which fields of
    an order a partner is told.
    """

    number = models.CharField(max_length=9, unique=True, default=new_number, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="orders")
    product = models.ForeignKey(Product, models.PROTECT, related_name="orders")
    total = models.DecimalField(max_digits=8, decimal_places=2)
    currency = models.CharField(max_length=3)
    ordered_on = models.DateTimeField(auto_now_add=True)
    refunded_on = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-ordered_on", "-pk")

    def __str__(self) -> str:
        return self.number

    def get_absolute_url(self) -> str:
        return reverse("shop:order", args=[self.number])
