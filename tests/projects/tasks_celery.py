"""The base settings with tasks run by Celery; see tests/core/test_task_backends.py.

The package `mysite` is that of docs/how-to/deliver-with-celery.md: the tests write it out.
"""

import os

from tests.projects.base import *

TASKS = {"default": {"BACKEND": "mysite.taskbackends.CeleryBackend"}}
CELERY_BROKER_URL = os.environ["AFFILIATIONS_BROKER"]
CELERY_BROKER_CONNECTION_TIMEOUT = 1
# Its own, so that no other run takes its tasks.
CELERY_TASK_DEFAULT_QUEUE = os.environ["AFFILIATIONS_QUEUE"]
# Workers of the tests talk to nobody but the broker.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False

# Runs while the tests of the base settings do, on the same server.
_default = DATABASES["default"]
_default.setdefault("TEST", {})
_default["TEST"].setdefault("NAME", f"test_{_default['NAME']}")
_default["TEST"]["NAME"] += "_tasks_celery"
