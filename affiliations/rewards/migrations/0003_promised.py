from typing import Any

from django.db import migrations, models

from .. import protection


def install(apps: Any, schema_editor: Any) -> None:
    """Install the triggers again: SQLite has made the table anew, without any."""
    protection.install(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [
        ("affiliations_rewards", "0002_append_only"),
    ]

    operations = [
        migrations.AlterField(
            model_name="entry",
            name="available_on",
            field=models.DateTimeField(
                blank=True,
                help_text="From when on it may be paid out: it is held until then. Without a date it is promised only, and taken back when what it depends on has happened, or never will.",
                null=True,
                verbose_name="available on",
            ),
        ),
        migrations.RunPython(install, migrations.RunPython.noop),
    ]
