"""A conversion may be taken back in parts."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("affiliations", "0007_callback_of_nobody"),
    ]

    operations = [
        migrations.CreateModel(
            name="Reversal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "reference",
                    models.CharField(
                        blank=True,
                        help_text="What it was: a refund's number, say. The same one counts once.",
                        max_length=200,
                        verbose_name="reference",
                    ),
                ),
                ("key", models.CharField(editable=False, max_length=64)),
                (
                    "amount_minor",
                    models.BigIntegerField(
                        blank=True, null=True, verbose_name="amount in minor units"
                    ),
                ),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created on"
                    ),
                ),
            ],
            options={
                "verbose_name": "reversal",
                "verbose_name_plural": "reversals",
            },
        ),
        migrations.AddField(
            model_name="conversion",
            name="reversed_minor",
            field=models.BigIntegerField(
                db_default=0,
                default=0,
                help_text="How much of the amount was taken back, in as many parts as it took.",
                verbose_name="reversed, in minor units",
            ),
        ),
        migrations.AlterField(
            model_name="conversion",
            name="reversed_on",
            field=models.DateTimeField(
                blank=True,
                help_text="When the whole of it was taken back.",
                null=True,
                verbose_name="reversed on",
            ),
        ),
        migrations.AddConstraint(
            model_name="conversion",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("reversed_minor", 0),
                    models.Q(
                        ("reversed_minor__gt", 0), ("reversed_minor__lt", models.F("amount_minor"))
                    ),
                    models.Q(
                        ("reversed_minor", models.F("amount_minor")), ("reversed_on__isnull", False)
                    ),
                    _connector="OR",
                ),
                name="affiliations_conversion_reversed",
            ),
        ),
        migrations.AddField(
            model_name="reversal",
            name="conversion",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="reversals",
                to="affiliations.conversion",
                verbose_name="conversion",
            ),
        ),
        migrations.AddConstraint(
            model_name="reversal",
            constraint=models.UniqueConstraint(
                fields=("conversion", "key"), name="affiliations_reversal_once"
            ),
        ),
    ]
