"""All that the suite adds to the predecessor's tables, and its own."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import affiliations.models.partners
import affiliations.signing


class Migration(migrations.Migration):
    dependencies = [
        ("affiliations", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # First, while nothing but the predecessor's own tables refers to these keys.
        migrations.AlterField(
            model_name="partner",
            name="id",
            field=models.BigAutoField(
                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
            ),
        ),
        migrations.AlterField(
            model_name="subscription",
            name="id",
            field=models.BigAutoField(
                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
            ),
        ),
        migrations.AlterField(
            model_name="visitor",
            name="id",
            field=models.BigAutoField(
                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
            ),
        ),
        migrations.CreateModel(
            name="ApiKey",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="Who or what uses it.", max_length=100, verbose_name="name"
                    ),
                ),
                (
                    "prefix",
                    models.CharField(
                        editable=False, max_length=8, unique=True, verbose_name="begins with"
                    ),
                ),
                ("digest", models.CharField(editable=False, max_length=64)),
                (
                    "scopes",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="What the key may do, one word each.",
                        verbose_name="scopes",
                    ),
                ),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created on"
                    ),
                ),
                (
                    "last_used_on",
                    models.DateTimeField(
                        blank=True, editable=False, null=True, verbose_name="last used on"
                    ),
                ),
                (
                    "revoked_on",
                    models.DateTimeField(
                        blank=True, editable=False, null=True, verbose_name="revoked on"
                    ),
                ),
            ],
            options={
                "verbose_name": "API key",
                "verbose_name_plural": "API keys",
            },
        ),
        migrations.CreateModel(
            name="Callback",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "webhook_id",
                    models.CharField(
                        default=affiliations.signing.new_webhook_id,
                        editable=False,
                        max_length=40,
                        unique=True,
                        verbose_name="id",
                    ),
                ),
                (
                    "method",
                    models.CharField(
                        choices=[("GET", "Get"), ("POST", "Post")],
                        default="GET",
                        max_length=4,
                        verbose_name="method",
                    ),
                ),
                ("url", models.TextField(verbose_name="address")),
                ("body", models.TextField(blank=True, default="", verbose_name="body")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "waiting"),
                            ("delivered", "delivered"),
                            ("dead", "given up"),
                            ("canceled", "canceled"),
                        ],
                        default="pending",
                        max_length=9,
                        verbose_name="state",
                    ),
                ),
                (
                    "due",
                    models.DateTimeField(
                        blank=True,
                        default=django.utils.timezone.now,
                        help_text="While an attempt is under way: when it is taken to have failed.",
                        null=True,
                        verbose_name="next attempt",
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                (
                    "attempts_before",
                    models.PositiveIntegerField(
                        default=0,
                        editable=False,
                        help_text="How many there had been when it was last sent again by hand.",
                    ),
                ),
                ("token", models.UUIDField(blank=True, editable=False, null=True)),
                (
                    "reason",
                    models.CharField(blank=True, default="", max_length=500, verbose_name="reason"),
                ),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created on"
                    ),
                ),
                (
                    "settled_on",
                    models.DateTimeField(blank=True, null=True, verbose_name="settled on"),
                ),
            ],
            options={
                "verbose_name": "callback",
                "verbose_name_plural": "callbacks",
            },
        ),
        migrations.CreateModel(
            name="CallbackAttempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField(verbose_name="number")),
                ("started_on", models.DateTimeField(verbose_name="started on")),
                ("duration_ms", models.PositiveIntegerField(verbose_name="duration in ms")),
                (
                    "status",
                    models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="status"),
                ),
                (
                    "error",
                    models.CharField(blank=True, default="", max_length=500, verbose_name="error"),
                ),
            ],
            options={
                "verbose_name": "attempt",
                "verbose_name_plural": "attempts",
                "ordering": ("number",),
            },
        ),
        migrations.CreateModel(
            name="Conversion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("trigger", models.CharField(max_length=100, verbose_name="trigger")),
                (
                    "reference",
                    models.CharField(
                        help_text="What it was: an order's number, say. The same thing converts once.",
                        max_length=200,
                        verbose_name="reference",
                    ),
                ),
                ("key", models.CharField(editable=False, max_length=64)),
                (
                    "amount_minor",
                    models.BigIntegerField(
                        blank=True,
                        help_text="Cents, for euros.",
                        null=True,
                        verbose_name="amount in minor units",
                    ),
                ),
                (
                    "currency",
                    models.CharField(blank=True, default="", max_length=3, verbose_name="currency"),
                ),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created on"
                    ),
                ),
                (
                    "reversed_on",
                    models.DateTimeField(
                        blank=True,
                        help_text="When it was taken back.",
                        null=True,
                        verbose_name="reversed on",
                    ),
                ),
                (
                    "decision",
                    models.JSONField(
                        default=dict,
                        help_text="Which visitors came into question, and why these were credited.",
                        verbose_name="decision",
                    ),
                ),
            ],
            options={
                "verbose_name": "conversion",
                "verbose_name_plural": "conversions",
            },
        ),
        migrations.CreateModel(
            name="Share",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "weight",
                    models.DecimalField(
                        decimal_places=6,
                        help_text="The weights of a conversion sum to 1.",
                        max_digits=7,
                        verbose_name="weight",
                    ),
                ),
            ],
            options={
                "verbose_name": "share",
                "verbose_name_plural": "shares",
            },
        ),
        migrations.AlterModelOptions(
            name="partner",
            options={
                "ordering": ("name", "pk"),
                "verbose_name": "partner",
                "verbose_name_plural": "partners",
            },
        ),
        migrations.AlterModelOptions(
            name="subscription",
            options={"verbose_name": "subscription", "verbose_name_plural": "subscriptions"},
        ),
        migrations.AlterModelOptions(
            name="visitor",
            options={"verbose_name": "visitor", "verbose_name_plural": "visitors"},
        ),
        migrations.AddField(
            model_name="partner",
            name="changed_on",
            field=models.DateTimeField(auto_now=True, verbose_name="changed on"),
        ),
        migrations.AddField(
            model_name="partner",
            name="created_on",
            field=models.DateTimeField(
                default=django.utils.timezone.now, editable=False, verbose_name="created on"
            ),
        ),
        migrations.AddField(
            model_name="partner",
            name="previous_fingerprint",
            field=models.CharField(blank=True, default="", editable=False, max_length=8),
        ),
        migrations.AddField(
            model_name="partner",
            name="previous_salt",
            field=models.CharField(blank=True, default="", editable=False, max_length=22),
        ),
        migrations.AddField(
            model_name="partner",
            name="previous_until",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="previous secret valid until"
            ),
        ),
        migrations.AddField(
            model_name="partner",
            name="secret_fingerprint",
            field=models.CharField(
                default=affiliations.models.partners.current_fingerprint,
                editable=False,
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="partner",
            name="secret_salt",
            field=models.CharField(
                default=affiliations.models.partners.new_salt, editable=False, max_length=22
            ),
        ),
        migrations.AddField(
            model_name="partner",
            name="users",
            field=models.ManyToManyField(
                blank=True,
                help_text="Accounts that may see this partner's own figures.",
                related_name="affiliate_partners",
                to=settings.AUTH_USER_MODEL,
                verbose_name="people",
            ),
        ),
        migrations.AddField(
            model_name="visitor",
            name="click_id",
            field=models.CharField(
                blank=True,
                default="",
                help_text="The partner's own id of this click, as it stood in the link.",
                max_length=200,
                verbose_name="click id",
            ),
        ),
        migrations.AddField(
            model_name="visitor",
            name="clicked_on",
            field=models.DateTimeField(
                default=django.utils.timezone.now,
                editable=False,
                help_text="When they last came through the partner's link; the window counts from it.",
                verbose_name="last click on",
            ),
        ),
        migrations.AddField(
            model_name="visitor",
            name="ident",
            field=models.CharField(
                blank=True,
                default="",
                editable=False,
                help_text="The anonymous id in this browser's cookie, where the site uses one.",
                max_length=22,
                verbose_name="browser",
            ),
        ),
        migrations.AddField(
            model_name="visitor",
            name="referrer_host",
            field=models.CharField(
                blank=True,
                default="",
                help_text="The site on which the link was followed, if the browser told.",
                max_length=253,
                verbose_name="coming from",
            ),
        ),
        migrations.AddField(
            model_name="visitor",
            name="sub_ids",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="Marks that the partner put into the link: sub1 to sub5.",
                verbose_name="sub ids",
            ),
        ),
        migrations.AlterField(
            model_name="partner",
            name="active",
            field=models.BooleanField(
                default=False,
                help_text="Whether there is a deal at present. Without it links still lead to the site, but no visitor is counted and nothing is credited.",
                verbose_name="active",
            ),
        ),
        migrations.AlterField(
            model_name="partner",
            name="name",
            field=models.CharField(max_length=250, verbose_name="name"),
        ),
        migrations.AlterField(
            model_name="partner",
            name="uid",
            field=models.CharField(
                editable=False,
                help_text="Identifies the partner in affiliate links. Made once, never changed.",
                max_length=8,
                unique=True,
                verbose_name="id in links",
            ),
        ),
        migrations.AlterField(
            model_name="subscription",
            name="callback_url",
            field=models.CharField(
                blank=True,
                help_text="The partner's address that is called each time. Must contain {visitor_id}; may also contain {partner_uid}, {trigger}, {reference}, {amount}, {currency}, {timestamp}, {click_id} and {sub1} to {sub5}. Leave it empty to count without telling anybody.",
                max_length=2000,
                validators=[affiliations.models.partners.validate_callback_url],
                verbose_name="callback URL",
            ),
        ),
        migrations.AlterField(
            model_name="subscription",
            name="partner",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="subscriptions",
                to="affiliations.partner",
                verbose_name="partner",
            ),
        ),
        migrations.AlterField(
            model_name="subscription",
            name="trigger",
            field=models.CharField(
                help_text="What has to happen for the partner to be told.",
                max_length=100,
                verbose_name="trigger",
            ),
        ),
        migrations.AlterField(
            model_name="visitor",
            name="entry_point",
            field=models.URLField(
                blank=True,
                help_text="The page at which they entered the site.",
                max_length=2000,
                verbose_name="entry point",
            ),
        ),
        migrations.AlterField(
            model_name="visitor",
            name="partner",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="visitors",
                to="affiliations.partner",
                verbose_name="partner",
            ),
        ),
        migrations.AlterField(
            model_name="visitor",
            name="referred_on",
            field=models.DateTimeField(auto_now_add=True, verbose_name="referred on"),
        ),
        migrations.AlterField(
            model_name="visitor",
            name="successful_on",
            field=models.DateTimeField(
                blank=True,
                help_text="When they first did what the partner is credited for.",
                null=True,
                verbose_name="successful on",
            ),
        ),
        migrations.AlterField(
            model_name="visitor",
            name="user",
            field=models.ForeignKey(
                blank=True,
                help_text="Who it was, once that is known.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="visitors",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
        migrations.AddIndex(
            model_name="visitor",
            index=models.Index(fields=["partner", "referred_on"], name="affiliations_visitor_came"),
        ),
        migrations.AddIndex(
            model_name="visitor",
            index=models.Index(
                fields=["partner", "successful_on"], name="affiliations_visitor_won"
            ),
        ),
        migrations.AddIndex(
            model_name="visitor",
            index=models.Index(fields=["user", "clicked_on"], name="affiliations_visitor_user"),
        ),
        migrations.AddIndex(
            model_name="visitor",
            index=models.Index(fields=["ident", "clicked_on"], name="affiliations_visitor_ident"),
        ),
        migrations.AddIndex(
            model_name="visitor",
            index=models.Index(fields=["referred_on"], name="affiliations_visitor_when"),
        ),
        migrations.AddField(
            model_name="apikey",
            name="partner",
            field=models.ForeignKey(
                blank=True,
                help_text="Set to let the key see this partner's data only.",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="api_keys",
                to="affiliations.partner",
                verbose_name="partner",
            ),
        ),
        migrations.AddField(
            model_name="callback",
            name="partner",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="callbacks",
                to="affiliations.partner",
                verbose_name="partner",
            ),
        ),
        migrations.AddField(
            model_name="callback",
            name="subscription",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="callbacks",
                to="affiliations.subscription",
                verbose_name="subscription",
            ),
        ),
        migrations.AddField(
            model_name="callbackattempt",
            name="callback",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="attempt_log",
                to="affiliations.callback",
                verbose_name="callback",
            ),
        ),
        migrations.AddField(
            model_name="conversion",
            name="user",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="affiliate_conversions",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
        migrations.AddField(
            model_name="conversion",
            name="visitor",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="conversions",
                to="affiliations.visitor",
                verbose_name="visitor",
            ),
        ),
        migrations.AddField(
            model_name="callback",
            name="conversion",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="callbacks",
                to="affiliations.conversion",
                verbose_name="conversion",
            ),
        ),
        migrations.AddField(
            model_name="share",
            name="conversion",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="shares",
                to="affiliations.conversion",
                verbose_name="conversion",
            ),
        ),
        migrations.AddField(
            model_name="share",
            name="visitor",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="shares",
                to="affiliations.visitor",
                verbose_name="visitor",
            ),
        ),
        migrations.AddConstraint(
            model_name="callbackattempt",
            constraint=models.UniqueConstraint(
                fields=("callback", "number"), name="affiliations_attempt_once"
            ),
        ),
        migrations.AddIndex(
            model_name="conversion",
            index=models.Index(fields=["created_on"], name="affiliations_conversion_when"),
        ),
        migrations.AddConstraint(
            model_name="conversion",
            constraint=models.UniqueConstraint(
                fields=("key", "visitor"), name="affiliations_conversion_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="conversion",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("amount_minor", None), ("currency", "")),
                    models.Q(
                        ("amount_minor__isnull", False), models.Q(("currency", ""), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="affiliations_conversion_money",
            ),
        ),
        migrations.AddIndex(
            model_name="callback",
            index=models.Index(fields=["state", "due"], name="affiliations_callback_due"),
        ),
        migrations.AddIndex(
            model_name="callback",
            index=models.Index(
                fields=["partner", "created_on"], name="affiliations_callback_whose"
            ),
        ),
        migrations.AddIndex(
            model_name="callback",
            index=models.Index(fields=["token"], name="affiliations_callback_token"),
        ),
        migrations.AddConstraint(
            model_name="share",
            constraint=models.UniqueConstraint(
                fields=("conversion", "visitor"), name="affiliations_share_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="share",
            constraint=models.CheckConstraint(
                condition=models.Q(("weight__gt", 0), ("weight__lte", 1)),
                name="affiliations_share_weight",
            ),
        ),
    ]
