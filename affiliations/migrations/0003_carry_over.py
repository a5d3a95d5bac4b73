"""Fit the predecessor's rows to the new tables. No row is lost, and each change is told."""

from typing import Any

from django.db import migrations, models
from django.utils.crypto import get_random_string

from affiliations import callbackurl
from affiliations.exceptions import InvalidCallbackURL

BATCH = 1000
MAX_TRIGGER = 100


def keep_fractions_of_seconds(apps: Any, schema_editor: Any) -> None:
    """Django before 1.11 took MariaDB for MySQL 5.5, whose dates had none; the others have them."""
    if schema_editor.connection.vendor == "mysql":
        schema_editor.execute(
            "ALTER TABLE affiliations_visitor "
            "MODIFY referred_on datetime(6) NOT NULL, MODIFY successful_on datetime(6) NULL"
        )


def give_secrets(apps: Any, schema_editor: Any) -> None:
    """Each partner its own: the column's default was asked for once, for all of them."""
    Partner = apps.get_model("affiliations", "Partner")
    partners = Partner.objects.using(schema_editor.connection.alias)
    for partner in partners.only("pk").iterator(chunk_size=BATCH):
        partners.filter(pk=partner.pk).update(secret_salt=get_random_string(22))


def date_clicks(apps: Any, schema_editor: Any) -> None:
    """The window counts from the last click; of the old visitors only the first is known."""
    Visitor = apps.get_model("affiliations", "Visitor")
    visitors = Visitor.objects.using(schema_editor.connection.alias)
    visitors.update(clicked_on=models.F("referred_on"))


def tell_duplicates_apart(apps: Any, schema_editor: Any) -> None:
    """Keep the subscription that was called, and give those that never were a name of their own.

    The predecessor called the first one that it found for a partner and a trigger. The others stay
    in the admin, and the check W040 points at them, until somebody decides about them.
    """
    Subscription = apps.get_model("affiliations", "Subscription")
    alias = schema_editor.connection.alias
    subscriptions = Subscription.objects.using(alias)
    for subscription in subscriptions.order_by("pk").iterator(chunk_size=BATCH):
        # Asked of the database, which decides what is equal: MariaDB overlooks case.
        twins = subscriptions.filter(partner_id=subscription.partner_id)
        if not twins.filter(trigger=subscription.trigger, pk__lt=subscription.pk).exists():
            continue
        number = 2
        while True:
            suffix = f" (duplicate {number})"
            name = subscription.trigger[: MAX_TRIGGER - len(suffix)] + suffix
            if not twins.filter(trigger=name).exists():
                break
            number += 1
        subscriptions.filter(pk=subscription.pk).update(trigger=name)
        print(  # noqa: T201 - whoever migrates has to be told
            f"\n  Subscription {subscription.pk} of partner {subscription.partner_id} to "
            f"{subscription.trigger!r} was a second one, and never called. It is {name!r} now.",
            end="",
        )


def tell_of_bad_addresses(apps: Any, schema_editor: Any) -> None:
    """Say which callbacks the predecessor could make and we cannot; the rows stay as they are."""
    Subscription = apps.get_model("affiliations", "Subscription")
    subscriptions = Subscription.objects.using(schema_editor.connection.alias)
    for subscription in subscriptions.exclude(callback_url="").order_by("pk").iterator():
        try:
            callbackurl.render(subscription.callback_url, {})
        except InvalidCallbackURL as error:
            print(  # noqa: T201 - the same
                f"\n  Subscription {subscription.pk} of partner {subscription.partner_id} to "
                f"{subscription.trigger!r} cannot be called: {error}",
                end="",
            )


class Migration(migrations.Migration):
    dependencies = [("affiliations", "0002_the_suite")]

    operations = [
        # Not atomic: MariaDB changes no table within a transaction.
        migrations.RunPython(keep_fractions_of_seconds, migrations.RunPython.noop, atomic=False),
        migrations.RunPython(give_secrets, migrations.RunPython.noop, elidable=False),
        migrations.RunPython(date_clicks, migrations.RunPython.noop, elidable=False),
        migrations.RunPython(tell_duplicates_apart, migrations.RunPython.noop, elidable=False),
        migrations.RunPython(tell_of_bad_addresses, migrations.RunPython.noop, elidable=False),
    ]
