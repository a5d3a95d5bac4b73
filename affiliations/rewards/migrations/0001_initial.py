"""Rules, the ledger, reviews and payouts."""

import uuid

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import affiliations.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("affiliations", "0008_reversals"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Destination",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "holder",
                    affiliations.fields.ExactCharField(
                        help_text="As the accounts name them.",
                        max_length=100,
                        unique=True,
                        verbose_name="holder",
                    ),
                ),
                (
                    "method",
                    models.CharField(
                        choices=[("paypal", "PayPal"), ("wise", "Wise")],
                        max_length=10,
                        verbose_name="method",
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="As their bank has it.", max_length=200, verbose_name="name"
                    ),
                ),
                (
                    "email",
                    models.EmailField(
                        max_length=254,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[A-Za-z0-9]", "Must begin with a letter or a digit."
                            )
                        ],
                        verbose_name="recipient’s e-mail address",
                    ),
                ),
            ],
            options={
                "verbose_name": "destination of payouts",
                "verbose_name_plural": "destinations of payouts",
            },
        ),
        migrations.CreateModel(
            name="PayoutBatch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                (
                    "until",
                    models.DateTimeField(
                        help_text="What became available after this is left for the next one.",
                        verbose_name="until",
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
                "verbose_name": "payout batch",
                "verbose_name_plural": "payout batches",
            },
        ),
        migrations.CreateModel(
            name="Account",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "holder",
                    affiliations.fields.ExactCharField(
                        help_text="Whose it is: partner:1, site:commissions, or as another app names its own.",
                        max_length=100,
                        verbose_name="holder",
                    ),
                ),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created on"
                    ),
                ),
                (
                    "partner",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="accounts",
                        to="affiliations.partner",
                        verbose_name="partner",
                    ),
                ),
            ],
            options={
                "verbose_name": "account",
                "verbose_name_plural": "accounts",
            },
        ),
        migrations.CreateModel(
            name="CommissionRule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=250, verbose_name="name")),
                (
                    "trigger",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="What has to happen for it to be paid. Empty: any trigger.",
                        max_length=100,
                        verbose_name="trigger",
                    ),
                ),
                (
                    "percent",
                    models.DecimalField(
                        blank=True,
                        decimal_places=4,
                        max_digits=7,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(100),
                        ],
                        verbose_name="percent of the amount",
                    ),
                ),
                (
                    "flat_minor",
                    models.BigIntegerField(
                        blank=True,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="flat sum, in minor units",
                    ),
                ),
                (
                    "currency",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Of every sum in the rule. A percentage without one is of any currency.",
                        max_length=3,
                        verbose_name="currency",
                    ),
                ),
                ("tiers", models.JSONField(blank=True, default=list, verbose_name="tiers")),
                (
                    "tiers_by",
                    models.CharField(
                        choices=[
                            ("count", "number of conversions"),
                            ("amount", "amount of conversions"),
                        ],
                        default="count",
                        max_length=6,
                        verbose_name="tiers by",
                    ),
                ),
                (
                    "period",
                    models.CharField(
                        choices=[
                            ("month", "calendar month"),
                            ("quarter", "quarter"),
                            ("year", "year"),
                            ("ever", "all time"),
                        ],
                        default="month",
                        help_text="How far the tiers and the cap per period reach back, by UTC.",
                        max_length=7,
                        verbose_name="period",
                    ),
                ),
                (
                    "minimum_minor",
                    models.BigIntegerField(
                        blank=True,
                        help_text="The rule is not for conversions that are worth less.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="minimum amount, in minor units",
                    ),
                ),
                (
                    "cap_minor",
                    models.BigIntegerField(
                        blank=True,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="cap per conversion, in minor units",
                    ),
                ),
                (
                    "period_cap_minor",
                    models.BigIntegerField(
                        blank=True,
                        help_text="For each partner.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="cap per period, in minor units",
                    ),
                ),
                (
                    "times",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Only for the first so many conversions of the same person.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="times",
                    ),
                ),
                (
                    "months",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Only until so many months after the person’s first conversion.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1200),
                        ],
                        verbose_name="months",
                    ),
                ),
                (
                    "priority",
                    models.IntegerField(
                        default=0,
                        help_text="Of several rules that are equally specific, the one with the highest holds.",
                        verbose_name="priority",
                    ),
                ),
                (
                    "valid_from",
                    models.DateTimeField(blank=True, null=True, verbose_name="valid from"),
                ),
                (
                    "valid_until",
                    models.DateTimeField(blank=True, null=True, verbose_name="valid until"),
                ),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created on"
                    ),
                ),
                (
                    "published_on",
                    models.DateTimeField(
                        blank=True, editable=False, null=True, verbose_name="published on"
                    ),
                ),
                ("lineage", models.UUIDField(default=uuid.uuid4, editable=False)),
                (
                    "partner",
                    models.ForeignKey(
                        blank=True,
                        help_text="For this one alone. With neither partner nor group it is for everybody.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="commission_rules",
                        to="affiliations.partner",
                        verbose_name="partner",
                    ),
                ),
                (
                    "replaces",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="replaced_by",
                        to="affiliations_rewards.commissionrule",
                        verbose_name="replaces",
                    ),
                ),
            ],
            options={
                "verbose_name": "commission rule",
                "verbose_name_plural": "commission rules",
            },
        ),
        migrations.CreateModel(
            name="Commission",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("lineage", models.UUIDField(editable=False, null=True)),
                (
                    "terms",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text="The rule’s, as they were.",
                        verbose_name="terms",
                    ),
                ),
                (
                    "base_minor",
                    models.BigIntegerField(
                        default=0, verbose_name="its part of the amount, in minor units"
                    ),
                ),
                ("minor", models.BigIntegerField(default=0, verbose_name="earned, in minor units")),
                (
                    "currency",
                    models.CharField(blank=True, default="", max_length=3, verbose_name="currency"),
                ),
                (
                    "record",
                    models.JSONField(
                        default=dict,
                        help_text="Which rules came into question, and why.",
                        verbose_name="record",
                    ),
                ),
                ("converted_on", models.DateTimeField(verbose_name="converted on")),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created on"
                    ),
                ),
                (
                    "conversion",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="commissions",
                        to="affiliations.conversion",
                        verbose_name="conversion",
                    ),
                ),
                (
                    "partner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="commissions",
                        to="affiliations.partner",
                        verbose_name="partner",
                    ),
                ),
                (
                    "visitor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="commissions",
                        to="affiliations.visitor",
                        verbose_name="visitor",
                    ),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="commissions",
                        to="affiliations_rewards.commissionrule",
                        verbose_name="rule",
                    ),
                ),
            ],
            options={
                "verbose_name": "commission",
                "verbose_name_plural": "commissions",
            },
        ),
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("commission", "commission"),
                            ("credit", "credit"),
                            ("adjustment", "adjustment"),
                            ("reversal", "reversal"),
                            ("payout", "payout"),
                        ],
                        max_length=10,
                        verbose_name="kind",
                    ),
                ),
                (
                    "minor",
                    models.BigIntegerField(
                        help_text="Above zero: owed to the holder of the account.",
                        verbose_name="amount in minor units",
                    ),
                ),
                (
                    "key",
                    affiliations.fields.ExactCharField(
                        help_text="What it was posted for: the same thing is posted once.",
                        max_length=100,
                        unique=True,
                        verbose_name="key",
                    ),
                ),
                (
                    "memo",
                    models.CharField(blank=True, default="", max_length=500, verbose_name="memo"),
                ),
                (
                    "available_on",
                    models.DateTimeField(
                        help_text="From when on it may be paid out: it is held until then.",
                        verbose_name="available on",
                    ),
                ),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created on"
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="affiliations_rewards.account",
                        verbose_name="account",
                    ),
                ),
                (
                    "commission",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="affiliations_rewards.commission",
                        verbose_name="commission",
                    ),
                ),
                (
                    "contra",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="contra_entries",
                        to="affiliations_rewards.account",
                        verbose_name="contra account",
                    ),
                ),
                (
                    "reverses",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reversals",
                        to="affiliations_rewards.entry",
                        verbose_name="reverses",
                    ),
                ),
            ],
            options={
                "verbose_name": "entry",
                "verbose_name_plural": "entries",
            },
        ),
        migrations.CreateModel(
            name="PartnerGroup",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=250, unique=True, verbose_name="name")),
                (
                    "partners",
                    models.ManyToManyField(
                        blank=True,
                        related_name="commission_groups",
                        to="affiliations.partner",
                        verbose_name="partners",
                    ),
                ),
            ],
            options={
                "verbose_name": "partner group",
                "verbose_name_plural": "partner groups",
                "ordering": ("name", "pk"),
            },
        ),
        migrations.AddField(
            model_name="commissionrule",
            name="group",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="commission_rules",
                to="affiliations_rewards.partnergroup",
                verbose_name="group",
            ),
        ),
        migrations.CreateModel(
            name="PartnerNetwork",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("digest", models.CharField(max_length=64, verbose_name="digest")),
                (
                    "seen_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="last seen on"
                    ),
                ),
                (
                    "partner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="networks",
                        to="affiliations.partner",
                        verbose_name="partner",
                    ),
                ),
            ],
            options={
                "verbose_name": "partner network",
                "verbose_name_plural": "partner networks",
            },
        ),
        migrations.CreateModel(
            name="Payout",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "uid",
                    models.UUIDField(
                        default=uuid.uuid4,
                        editable=False,
                        help_text="Names it to whoever pays it out, so that it is paid once.",
                        unique=True,
                        verbose_name="number",
                    ),
                ),
                ("minor", models.BigIntegerField(verbose_name="amount in minor units")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("draft", "draft"),
                            ("approved", "approved"),
                            ("sent", "sent"),
                            ("paid", "paid"),
                            ("failed", "failed"),
                        ],
                        default="draft",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                (
                    "created_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created on"
                    ),
                ),
                (
                    "approved_on",
                    models.DateTimeField(blank=True, null=True, verbose_name="approved on"),
                ),
                ("sent_on", models.DateTimeField(blank=True, null=True, verbose_name="sent on")),
                (
                    "settled_on",
                    models.DateTimeField(blank=True, null=True, verbose_name="settled on"),
                ),
                (
                    "method",
                    models.CharField(
                        blank=True,
                        choices=[("paypal", "PayPal"), ("wise", "Wise")],
                        default="",
                        editable=False,
                        max_length=10,
                        verbose_name="method",
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        blank=True,
                        default="",
                        editable=False,
                        max_length=200,
                        verbose_name="recipient’s name",
                    ),
                ),
                (
                    "email",
                    models.EmailField(
                        blank=True,
                        default="",
                        editable=False,
                        max_length=254,
                        verbose_name="recipient’s e-mail address",
                    ),
                ),
                (
                    "provider_reference",
                    affiliations.fields.ExactCharField(
                        blank=True, default="", max_length=200, verbose_name="provider’s reference"
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        blank=True, default="", max_length=300, verbose_name="why it failed"
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payouts",
                        to="affiliations_rewards.account",
                        verbose_name="account",
                    ),
                ),
                (
                    "batch",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payouts",
                        to="affiliations_rewards.payoutbatch",
                        verbose_name="batch",
                    ),
                ),
            ],
            options={
                "verbose_name": "payout",
                "verbose_name_plural": "payouts",
            },
        ),
        migrations.CreateModel(
            name="PayoutEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("claimed", models.BigIntegerField(editable=False, null=True)),
                (
                    "entry",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payout_items",
                        to="affiliations_rewards.entry",
                        verbose_name="entry",
                    ),
                ),
                (
                    "payout",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="items",
                        to="affiliations_rewards.payout",
                        verbose_name="payout",
                    ),
                ),
            ],
            options={
                "verbose_name": "entry of a payout",
                "verbose_name_plural": "entries of payouts",
            },
        ),
        migrations.CreateModel(
            name="Review",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "reason",
                    affiliations.fields.ExactCharField(max_length=50, verbose_name="reason"),
                ),
                (
                    "detail",
                    models.CharField(blank=True, default="", max_length=200, verbose_name="detail"),
                ),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("open", "open"),
                            ("released", "released"),
                            ("rejected", "rejected"),
                            ("moot", "moot"),
                        ],
                        default="open",
                        max_length=8,
                        verbose_name="outcome",
                    ),
                ),
                (
                    "opened_on",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="opened on"
                    ),
                ),
                (
                    "resolved_on",
                    models.DateTimeField(blank=True, null=True, verbose_name="resolved on"),
                ),
                (
                    "entry",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reviews",
                        to="affiliations_rewards.entry",
                        verbose_name="entry",
                    ),
                ),
                (
                    "resolved_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="resolved by",
                    ),
                ),
            ],
            options={
                "verbose_name": "review",
                "verbose_name_plural": "reviews",
            },
        ),
        migrations.CreateModel(
            name="Snapshot",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("taken_on", models.DateTimeField(verbose_name="taken on")),
                (
                    "last_entry",
                    models.BigIntegerField(
                        help_text="All entries up to this one are in the sums.",
                        verbose_name="last entry",
                    ),
                ),
                ("total_minor", models.BigIntegerField(verbose_name="total, in minor units")),
                (
                    "available_minor",
                    models.BigIntegerField(verbose_name="available, in minor units"),
                ),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="snapshots",
                        to="affiliations_rewards.account",
                        verbose_name="account",
                    ),
                ),
            ],
            options={
                "verbose_name": "snapshot",
                "verbose_name_plural": "snapshots",
            },
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.UniqueConstraint(
                fields=("holder", "currency"), name="affiliations_account_once"
            ),
        ),
        migrations.AddIndex(
            model_name="commission",
            index=models.Index(
                fields=["partner", "converted_on"], name="affiliations_commission_whose"
            ),
        ),
        migrations.AddIndex(
            model_name="commission",
            index=models.Index(
                fields=["partner", "lineage", "converted_on"], name="affiliations_commission_line"
            ),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.UniqueConstraint(
                fields=("conversion", "partner"), name="affiliations_commission_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("minor", 0),
                    models.Q(
                        ("minor__gt", 0),
                        ("rule__isnull", False),
                        models.Q(("currency", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="affiliations_commission_money",
            ),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(fields=["account", "id"], name="affiliations_entry_account"),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(fields=["account", "available_on"], name="affiliations_entry_due"),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(fields=["contra", "id"], name="affiliations_entry_contra"),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.CheckConstraint(
                condition=models.Q(("minor", 0), _negated=True),
                name="affiliations_entry_moves_something",
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.CheckConstraint(
                condition=models.Q(("account", models.F("contra")), _negated=True),
                name="affiliations_entry_two_legs",
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "reversal"), ("reverses__isnull", False)),
                    models.Q(models.Q(("kind", "reversal"), _negated=True), ("reverses", None)),
                    _connector="OR",
                ),
                name="affiliations_entry_reversal",
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "commission"), _negated=True),
                    ("commission__isnull", False),
                    _connector="OR",
                ),
                name="affiliations_entry_commission",
            ),
        ),
        migrations.AddIndex(
            model_name="commissionrule",
            index=models.Index(fields=["lineage"], name="affiliations_rule_lineage"),
        ),
        migrations.AddConstraint(
            model_name="commissionrule",
            constraint=models.CheckConstraint(
                condition=models.Q(("partner", None), ("group", None), _connector="OR"),
                name="affiliations_rule_whose",
            ),
        ),
        migrations.AddConstraint(
            model_name="commissionrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("flat_minor__gte", 0),
                        ("percent", None),
                        models.Q(("currency", ""), _negated=True),
                    ),
                    models.Q(("flat_minor", None), ("percent__gte", 0), ("percent__lte", 100)),
                    _connector="OR",
                ),
                name="affiliations_rule_pays",
            ),
        ),
        migrations.AddConstraint(
            model_name="commissionrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("currency", ""), _negated=True),
                    models.Q(
                        ("cap_minor", None), ("minimum_minor", None), ("period_cap_minor", None)
                    ),
                    _connector="OR",
                ),
                name="affiliations_rule_currency",
            ),
        ),
        migrations.AddConstraint(
            model_name="partnernetwork",
            constraint=models.UniqueConstraint(
                fields=("partner", "digest"), name="affiliations_network_once"
            ),
        ),
        migrations.AddIndex(
            model_name="payout",
            index=models.Index(fields=["state", "created_on"], name="affiliations_payout_state"),
        ),
        migrations.AddIndex(
            model_name="payout",
            index=models.Index(fields=["created_on"], name="affiliations_payout_when"),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.UniqueConstraint(
                fields=("batch", "account"), name="affiliations_payout_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.CheckConstraint(
                condition=models.Q(("minor__gt", 0)), name="affiliations_payout_pays"
            ),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("settled_on__isnull", False), ("state__in", ("paid", "failed"))),
                    models.Q(("settled_on", None), ("state__in", ("draft", "approved", "sent"))),
                    _connector="OR",
                ),
                name="affiliations_payout_settled",
            ),
        ),
        migrations.AddConstraint(
            model_name="payoutentry",
            constraint=models.UniqueConstraint(
                fields=("claimed",), name="affiliations_payout_claims_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="payoutentry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("claimed", None), ("claimed", models.F("entry")), _connector="OR"
                ),
                name="affiliations_payout_claims_its_own",
            ),
        ),
        migrations.AddIndex(
            model_name="review",
            index=models.Index(fields=["outcome", "opened_on"], name="affiliations_review_queue"),
        ),
        migrations.AddConstraint(
            model_name="review",
            constraint=models.UniqueConstraint(
                fields=("entry", "reason"), name="affiliations_review_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="review",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("outcome", "open"), ("resolved_on", None)),
                    models.Q(
                        models.Q(("outcome", "open"), _negated=True), ("resolved_on__isnull", False)
                    ),
                    _connector="OR",
                ),
                name="affiliations_review_resolved",
            ),
        ),
        migrations.AddConstraint(
            model_name="snapshot",
            constraint=models.UniqueConstraint(
                fields=("account", "taken_on"), name="affiliations_snapshot_once"
            ),
        ),
    ]
