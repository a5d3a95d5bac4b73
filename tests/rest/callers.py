"""What the operations of an API ask of whoever calls, and staff who have it or not."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Permission
from django.core import serializers

from affiliations.access import Right
from tests.core.factories import make_user


def rights(api: Any) -> dict[str, Right | None]:
    """Return what each operation of an API asks for, by its method and path as documented."""
    found = {}
    for router in api._get_bound_routers():
        for path, view in router.path_operations.items():
            for operation in view.operations:
                # Without any it is for everybody.
                asked = [each.right for each in operation.auth_callbacks]
                for method in operation.methods:
                    found[f"{method} {path}"] = asked[0] if asked else None
    return found


def documented(api: Any) -> set[str]:
    """Return the operations that the document of an API has."""
    paths = api.get_openapi_schema(path_prefix="")["paths"]
    return {f"{method.upper()} {path}" for path in paths for method in paths[path]}


def make_staff(right: Right, *, holds: bool) -> Any:
    """Return a user who may log in to the admin, and do nothing else, or all of the app's else."""
    user = make_user()
    user.is_staff = True
    user.save()
    app, _, codename = right.permission.partition(".")
    allowed = Permission.objects.filter(content_type__app_label=app)
    mine = allowed.filter(codename=codename) if holds else allowed.exclude(codename=codename)
    user.user_permissions.set(mine)
    return user


def written(kinds: Iterable[Any]) -> str:
    """Return all that a call might change, as text."""
    return "".join(serializers.serialize("json", each.objects.order_by("pk")) for each in kinds)
