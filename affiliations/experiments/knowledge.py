"""Tell of somebody what only this suite knows, for conditions that ask for it.

- `aff_partner`: the id, in links, of the partner who sent them
- `aff_sub1` and so on: what the partner's link said besides, by its parameter's name
- `aff_link`: the path of the short link that they came through
- `aff_referred`: whether a friend brought them
- `aff_first_visit`: whether nobody has known them for longer than half an hour

What is not known is left out, but for the two that are true or false.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.db import models, router
from django.utils import timezone

from ..models import Visitor
from ..tracking.identities import Kind, Name
from ..tracking.models import Customer, Identity
from ..tracking.properties import Known
from .targeting import PREFIX

__all__ = ["KEYS", "PREFIX", "of_names", "of_visit"]

#: What may be asked for; what a link said besides is `aff_` and its parameter's name.
KEYS = ("aff_partner", "aff_link", "aff_referred", "aff_first_visit")
#: For which a visit is the first.
VISIT = timedelta(minutes=30)


def of_names(prop: Known, names: Sequence[Name], keys: Collection[str]) -> dict[str, Any]:
    """Return of whoever goes by some names what is asked for; {} where none of it is.

    At most five queries, and none where no condition asks for any of it.
    """
    wanted = {each for each in keys if each.startswith(PREFIX)}
    if not wanted:
        return {}
    using = router.db_for_read(Identity)
    rows = Identity.objects.using(using).filter(
        property=prop.id, value__in={each.value for each in names}
    )
    owners = {row.customer_id for row in rows if Name(row.kind, row.value) in names}
    theirs = Identity.objects.using(using).filter(customer__in=owners)
    named = [Name(*each) for each in theirs.values_list("kind", "value")] if owners else []
    everything = [*names, *named]
    found: dict[str, Any] = {}
    if "aff_first_visit" in wanted:
        older = Customer.objects.using(using).filter(
            pk__in=owners, created_on__lt=timezone.now() - VISIT
        )
        found["aff_first_visit"] = not (owners and older.exists())
    users = [value for kind, value in everything if kind == Kind.USER]
    if "aff_referred" in wanted:
        found["aff_referred"] = _is_referred(users)
    if wanted - found.keys():
        idents = [value for kind, value in everything if kind == Kind.COOKIE]
        found |= of_visit(_last_visit(users, idents), wanted)
    return found


def of_visit(visitor: Visitor | None, wanted: Collection[str]) -> dict[str, Any]:
    """Return what is asked for of a visit, {} where there is none."""
    if visitor is None:
        return {}
    found = {f"{PREFIX}{name}": value for name, value in visitor.sub_ids.items()}
    found["aff_partner"] = visitor.partner.uid
    if "aff_link" in wanted and apps.is_installed("affiliations.links"):
        rows = apps.get_model("affiliations_links", "Transaction").objects.filter(visitor=visitor)
        path = rows.order_by("-clicked_on").values_list("path", flat=True).first()
        found |= {"aff_link": path} if path else {}
    return found


def _last_visit(users: Sequence[Any], idents: Sequence[str]) -> Visitor | None:
    if not (users or idents):
        return None
    rows = Visitor.objects.in_window().filter(models.Q(user__in=users) | models.Q(ident__in=idents))
    return rows.select_related("partner").order_by("-clicked_on", "-pk").first()


def _is_referred(users: Sequence[Any]) -> bool:
    if not (users and apps.is_installed("affiliations.referrals")):
        return False
    rows = apps.get_model("affiliations_referrals", "Member").objects
    return bool(rows.filter(user__in=users, indicator__isnull=False).exists())
