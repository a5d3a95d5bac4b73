"""Let the database refuse that what was earned or posted is ever changed."""

from typing import Any

from django.db import migrations

from .. import protection


def install(apps: Any, schema_editor: Any) -> None:
    """Install the triggers."""
    protection.install(schema_editor.connection)


def remove(apps: Any, schema_editor: Any) -> None:
    """Take them away."""
    protection.remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [
        ("affiliations_rewards", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(install, remove),
    ]
