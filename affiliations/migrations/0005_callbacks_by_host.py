"""Callbacks are handed out host by host, and a subscription can be switched off."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("affiliations", "0004_subscription_once"),
    ]

    operations = [
        migrations.CreateModel(
            name="Destination",
            fields=[
                (
                    "host",
                    models.CharField(
                        max_length=255, primary_key=True, serialize=False, verbose_name="host"
                    ),
                ),
                (
                    "failures",
                    models.PositiveIntegerField(default=0, verbose_name="failures in a row"),
                ),
                (
                    "failing_since",
                    models.DateTimeField(blank=True, null=True, verbose_name="failing since"),
                ),
                (
                    "paused_until",
                    models.DateTimeField(blank=True, null=True, verbose_name="paused until"),
                ),
                ("turn", models.PositiveBigIntegerField(default=0, editable=False)),
            ],
            options={
                "verbose_name": "host",
                "verbose_name_plural": "hosts",
                "ordering": ("host",),
            },
        ),
        migrations.RemoveIndex(
            model_name="callback",
            name="affiliations_callback_due",
        ),
        migrations.RemoveIndex(
            model_name="callback",
            name="affiliations_callback_token",
        ),
        migrations.AddField(
            model_name="callback",
            name="expects",
            field=models.CharField(
                blank=True, default="", max_length=200, verbose_name="answer must contain"
            ),
        ),
        migrations.AddField(
            model_name="callback",
            name="host",
            field=models.CharField(blank=True, default="", max_length=255, verbose_name="host"),
        ),
        migrations.AddField(
            model_name="callback",
            name="resent_on",
            field=models.DateTimeField(blank=True, null=True, verbose_name="sent again on"),
        ),
        migrations.AddField(
            model_name="callbackattempt",
            name="answer",
            field=models.TextField(blank=True, default="", verbose_name="answer"),
        ),
        migrations.AddField(
            model_name="callbackattempt",
            name="answer_until",
            field=models.DateTimeField(blank=True, null=True, verbose_name="answer kept until"),
        ),
        migrations.AddField(
            model_name="subscription",
            name="expects",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Some networks answer “OK” even when they refuse a call, and say so in the answer’s text. Write what it contains only if the call was accepted, such as success=true; any other answer then counts as refused, and the call is not repeated.",
                max_length=200,
                verbose_name="answer must contain",
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="failing_since",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="failing since"
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="failures",
            field=models.PositiveIntegerField(
                default=0, editable=False, verbose_name="failures in a row"
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="method",
            field=models.CharField(
                choices=[("GET", "GET"), ("POST", "POST")],
                default="GET",
                help_text="GET tells everything in the URL. POST tells it as JSON; the URL then needs no {visitor_id}.",
                max_length=4,
                verbose_name="method",
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="off_reason",
            field=models.CharField(
                blank=True,
                default="",
                editable=False,
                max_length=200,
                verbose_name="why it is switched off",
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="off_since",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="switched off since"
            ),
        ),
        migrations.AlterField(
            model_name="callback",
            name="method",
            field=models.CharField(
                choices=[("GET", "GET"), ("POST", "POST")],
                default="GET",
                max_length=4,
                verbose_name="method",
            ),
        ),
        migrations.AlterField(
            model_name="callback",
            name="state",
            field=models.CharField(
                choices=[
                    ("pending", "waiting"),
                    ("parked", "parked"),
                    ("delivered", "delivered"),
                    ("refused", "refused"),
                    ("dead", "given up"),
                    ("canceled", "canceled"),
                ],
                default="pending",
                max_length=9,
                verbose_name="state",
            ),
        ),
        migrations.AddIndex(
            model_name="callback",
            index=models.Index(fields=["state", "host", "due"], name="affiliations_callback_next"),
        ),
        migrations.AddIndex(
            model_name="callbackattempt",
            index=models.Index(fields=["started_on"], name="affiliations_attempt_when"),
        ),
        migrations.AddIndex(
            model_name="callbackattempt",
            index=models.Index(fields=["answer_until"], name="affiliations_attempt_until"),
        ),
    ]
