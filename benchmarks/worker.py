"""The worker of django-tasks-db, with a task that makes the same call; needs that package."""

from __future__ import annotations

from collections.abc import Iterable

from django_tasks_db.management.commands.db_worker import Worker
from django_tasks_db.models import DBTaskResult

from affiliations import egress
from affiliations.tasks import task

from .partner import HEADERS


@task(backend="worker")
def call(url: str) -> int | None:
    """Make one call, by the same guard; nothing is signed, and no attempt is recorded."""
    return egress.send("GET", url, headers=HEADERS, body=b"").status


def fill(urls: Iterable[str]) -> None:
    """Let a task wait for each address, and nothing else."""
    DBTaskResult.objects.all().delete()
    for url in urls:
        call.enqueue(url)


def work() -> None:
    """Run all tasks that wait."""
    Worker(
        queue_names=["*"],
        excluded_queue_names=[],
        interval=0,
        batch=True,
        backend_name="worker",
        startup_delay=False,
        max_tasks=None,
        worker_id="benchmark",
    ).run()
    if DBTaskResult.objects.exclude(status="SUCCESSFUL").exists():
        raise RuntimeError("not all tasks were run")
