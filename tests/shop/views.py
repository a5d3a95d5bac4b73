"""What a site does around the package, and nothing more: plain answers, no forms, no CSRF."""

from typing import Any

from django.contrib.auth import alogin, get_user_model, login, logout
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from affiliations.visits import forget_browser
from tests.shop.models import Order


def home(request: HttpRequest) -> HttpResponse:
    return text("home")


def echo(request: HttpRequest) -> HttpResponse:
    return text(request.META["QUERY_STRING"])


async def aecho(request: HttpRequest) -> HttpResponse:
    return text(request.META["QUERY_STRING"])


@csrf_exempt
@require_POST
def signup(request: HttpRequest) -> HttpResponse:
    user = get_user_model().objects.create_user(username=request.POST["username"])
    if request.POST.get("login") != "0":
        login(request, user)
    return text(f"signed up {user.pk}", status=201)


@csrf_exempt
@require_POST
async def asignup(request: HttpRequest) -> HttpResponse:
    user = await get_user_model().objects.acreate_user(username=request.POST["username"])
    if request.POST.get("login") != "0":
        await alogin(request, user)
    return text(f"signed up {user.pk}", status=201)


@csrf_exempt
@require_POST
def log_in(request: HttpRequest) -> HttpResponse:
    # By name alone: tests are about what a login does, not about who may log in.
    login(request, get_object_or_404(get_user_model(), username=request.POST["username"]))
    return text("logged in")


@csrf_exempt
@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return text("logged out")


@csrf_exempt
@require_POST
def order(request: HttpRequest) -> HttpResponse:
    user = request.user if request.user.is_authenticated else None
    with transaction.atomic():
        placed = Order.objects.create(user=user, **fields(request))
    return text(f"ordered {placed.pk}", status=201)


@csrf_exempt
@require_POST
async def aorder(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    placed = await Order.objects.acreate(
        user=user if user.is_authenticated else None, **fields(request)
    )
    return text(f"ordered {placed.pk}", status=201)


def stranger(request: HttpRequest) -> HttpResponse:
    """Answer with what is left of the visitor once the browser is forgotten."""
    assert request.affiliate_visitor
    forget_browser(request)
    return whoami(request)


def whoami(request: HttpRequest) -> HttpResponse:
    # The lazy visitor wraps None, too: it is asked for its truth, never `is None`.
    visitor = request.affiliate_visitor
    return answer(visitor.pk if visitor else None, request.user)


async def awhoami(request: HttpRequest) -> HttpResponse:
    visitor = await request.affiliate_visitor
    return answer(visitor.pk if visitor else None, await request.auser())


def answer(visitor: int | None, user: Any) -> JsonResponse:
    name = user.get_username() if user.is_authenticated else None
    return JsonResponse({"visitor": visitor, "user": name})


def fields(request: HttpRequest) -> dict[str, str]:
    currency = request.POST.get("currency", "EUR")
    return {
        "number": request.POST["number"],
        "total": request.POST["total"],
        "currency": currency,
    }


def text(content: str, status: int = 200) -> HttpResponse:
    return HttpResponse(content, content_type="text/plain; charset=utf-8", status=status)
