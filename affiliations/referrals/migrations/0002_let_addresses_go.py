from typing import Any

import django.utils.timezone
from django.db import migrations, models


def wait_since_then(apps: Any, schema_editor: Any) -> None:
    """Let what is there have waited since it was noted, if it waits still."""
    rows = apps.get_model("affiliations_referrals", "EmailIndication").objects
    rows = rows.using(schema_editor.connection.alias)
    rows.update(waiting_since=models.F("created_on"))
    done = models.Q(member__isnull=False) | models.Q(email__startswith="erased:")
    rows.filter(done).update(waiting_since=None)


class Migration(migrations.Migration):
    dependencies = [
        ("affiliations_referrals", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="emailindication",
            name="waiting_since",
            field=models.DateTimeField(
                default=django.utils.timezone.now,
                editable=False,
                null=True,
                verbose_name="waiting since",
            ),
        ),
        migrations.AddField(
            model_name="mailrefusal",
            name="fingerprint",
            field=models.CharField(default="", editable=False, max_length=8),
        ),
        migrations.AddIndex(
            model_name="emailindication",
            index=models.Index(fields=["waiting_since", "id"], name="affiliations_indication_old"),
        ),
        migrations.RunPython(wait_since_then, migrations.RunPython.noop),
    ]
