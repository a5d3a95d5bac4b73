"""The address that the shop calls when somebody is credited."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from .models import Credit


@csrf_exempt
@require_POST
def credit(request: HttpRequest, user_hash: str) -> HttpResponse:
    """Take note of a credit, once for each id, or of less than nothing where one is taken back."""
    try:
        amount = Decimal(request.POST.get("amount", ""))
    except InvalidOperation:
        return HttpResponse("amount: is none", status=400)
    Credit.objects.get_or_create(
        webhook_id=request.headers.get("webhook-id", ""),
        defaults={
            "user_hash": user_hash,
            "amount": amount,
            "currency": request.POST.get("currency", ""),
            "program": request.POST.get("program_name", ""),
            "operation": request.POST.get("operation", ""),
        },
    )
    return HttpResponse("noted")
