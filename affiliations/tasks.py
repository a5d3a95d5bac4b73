"""Wake the delivery through Django's Tasks API; nothing is lost where nobody runs these tasks."""

from __future__ import annotations

from . import outbox

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task  # type: ignore[no-redef]

#: Seconds that a call may take when the site's engine runs tasks at once, in the visitor's request.
SHORT = 3.0


@task()
def deliver_callbacks(ids: list[int]) -> None:
    """Make the first attempt at freshly written callbacks."""
    outbox.deliver_due(ids=ids, timeout=SHORT)
