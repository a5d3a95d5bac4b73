"""The shop's pages."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.contrib.auth.views import RedirectURLMixin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django.views.generic import FormView

from affiliations import tracking
from affiliations.money import Money

from .forms import SignUpForm
from .models import Order, Product
from .services import place_order, refund_order


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show what there is to buy."""
    return render(request, "shop/home.html", {"products": Product.objects.all()})


@require_http_methods(["GET", "POST"])
def product(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one product; a POST orders it."""
    found = get_object_or_404(Product, slug=slug)
    if request.method != "POST":
        return render(request, "shop/product.html", {"product": found})
    if not isinstance(request.user, User):
        return redirect("shop:sign-up")
    placed = place_order(user=request.user, product=found)
    paid = Money.of(placed.total, placed.currency)
    tracking.hit(request, "purchase", value=paid, transaction_id=placed.number)
    messages.success(request, f"Thank you! Your order {placed.number} is on its way.")
    return redirect(placed)


class SignUp(RedirectURLMixin, FormView):
    """Register a customer and log them in."""

    template_name = "shop/sign-up.html"
    form_class = SignUpForm
    next_page = "shop:home"

    def form_valid(self, form: SignUpForm) -> HttpResponse:
        # One transaction for the customer and for what a trigger records about them.
        with transaction.atomic():
            user = form.save()
        login(self.request, user)
        messages.success(self.request, f"Welcome, {user.get_username()}!")
        return redirect(self.get_success_url())


@require_GET
@login_required
def orders(request: HttpRequest) -> HttpResponse:
    """Show the customer's own orders."""
    own = Order.objects.filter(user=request.user.pk).select_related("product")
    return render(request, "shop/orders.html", {"orders": own})


@require_GET
@login_required
def order(request: HttpRequest, number: str) -> HttpResponse:
    """Show one order to whoever placed it."""
    own = Order.objects.filter(user=request.user.pk).select_related("product")
    return render(request, "shop/order.html", {"order": get_object_or_404(own, number=number)})


@require_POST
@login_required
def refund(request: HttpRequest, number: str) -> HttpResponse:
    """Refund an order of the customer's own."""
    own = get_object_or_404(Order, user=request.user.pk, number=number)
    if refund_order(order=own):
        messages.success(request, f"Order {number} is refunded.")
    else:
        messages.info(request, f"Order {number} had been refunded before.")
    return redirect(own)
