import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("affiliations_rewards", "0003_promised"),
    ]

    operations = [
        migrations.AlterField(
            model_name="payoutdestination",
            name="name",
            field=models.CharField(
                help_text="As their bank has it.",
                max_length=200,
                validators=[
                    django.core.validators.RegexValidator(
                        "^['\\s]*[=+\\-@＝＋－＠]",
                        "Must not begin with =, +, - or @.",
                        inverse_match=True,
                    ),
                    django.core.validators.RegexValidator(
                        "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]",
                        "Must not hold line breaks or control characters.",
                        inverse_match=True,
                    ),
                ],
                verbose_name="name",
            ),
        ),
    ]
