"""Say of each callback and subscription which host it calls, so that deliveries find them."""

from typing import Any

from django.db import migrations

from affiliations import callbackurl
from affiliations.exceptions import InvalidCallbackURL

BATCH = 1000


def name_hosts(apps: Any, schema_editor: Any) -> None:
    """Batch by batch, as there may be many callbacks; what was erased has no address any more."""
    alias = schema_editor.connection.alias
    Callback = apps.get_model("affiliations", "Callback")
    callbacks = Callback.objects.using(alias)
    hosts = set()
    last = 0
    while rows := list(callbacks.filter(pk__gt=last).order_by("pk").only("url", "state")[:BATCH]):
        last = rows[-1].pk
        for row in rows:
            # Those that were given up at once hold what is no address.
            row.host = callbackurl.host(row.url) if row.url else ""
        callbacks.bulk_update(rows, ["host"])
        hosts |= {row.host for row in rows if row.state == "pending"}
    Subscription = apps.get_model("affiliations", "Subscription")
    urls = Subscription.objects.using(alias).exclude(callback_url="")
    for url in urls.values_list("callback_url", flat=True).iterator():
        try:
            hosts.add(callbackurl.host(callbackurl.render(url, {})))
        except InvalidCallbackURL:
            continue
    Destination = apps.get_model("affiliations", "Destination")
    Destination.objects.using(alias).bulk_create(
        [Destination(host=host) for host in sorted(hosts - {""})], ignore_conflicts=True
    )


class Migration(migrations.Migration):
    dependencies = [("affiliations", "0005_callbacks_by_host")]

    operations = [migrations.RunPython(name_hosts, migrations.RunPython.noop, elidable=True)]
