"""A partner is subscribed to a trigger once."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("affiliations", "0003_carry_over")]

    operations = [
        migrations.AddConstraint(
            model_name="subscription",
            constraint=models.UniqueConstraint(
                fields=("partner", "trigger"),
                name="affiliations_subscription_once",
                violation_error_message="The partner is subscribed to this trigger already.",
            ),
        ),
    ]
