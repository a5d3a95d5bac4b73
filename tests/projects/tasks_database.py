"""The base settings with tasks on the database; used by tests/core/test_task_backends.py."""

from tests.projects.base import *

INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

# Runs while the tests of the base settings do, on the same server.
_default = DATABASES["default"]
_default.setdefault("TEST", {})
_default["TEST"].setdefault("NAME", f"test_{_default['NAME']}")
_default["TEST"]["NAME"] += "_tasks_database"
