"""The settings of the processes that tests/core/promises/chaos.py starts, and kills."""

import os

from tests.projects.base import *

# One machine plays all partners there are, and the leases of the dead count as calls under way.
AFFILIATE_CALLBACKS_PER_HOST = 1000

if os.environ.get("CHAOS_TASKS"):
    INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
