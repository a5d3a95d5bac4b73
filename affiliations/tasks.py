"""Wake the delivery through Django's Tasks API; nothing is lost where nobody runs these tasks."""

from __future__ import annotations

from . import delivery

try:
    from django.tasks import task
    from django.tasks.backends.immediate import ImmediateBackend
except ImportError:  # Django 5.2
    from django_tasks import task  # type: ignore[no-redef]
    from django_tasks.backends.immediate import (  # type: ignore[assignment]
        ImmediateBackend,
    )

#: Seconds that the calls may take, all together, when the site's engine runs tasks at once, in the
#: visitor's request.
SHORT = 3.0


@task()
def deliver_callbacks(ids: list[int]) -> None:
    """Make the first attempt at freshly written callbacks."""
    delivery.deliver_due(ids=ids, within=SHORT if run_at_once() else None)


def run_at_once() -> bool:
    """Tell whether the site's engine runs tasks where they are enqueued, in the request."""
    return isinstance(deliver_callbacks.get_backend(), ImmediateBackend)
