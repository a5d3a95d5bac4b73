"""React to the signals of Django and of the core."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.core.signals import setting_changed
from django.db import router, transaction
from django.db.models.signals import post_delete, post_save, pre_delete

from . import callbackurl, firing, outbox, partners, services, tasks, visits, wakeup
from .context import current_request
from .exceptions import InvalidCallbackURL
from .models import Callback, Partner, Subscription
from .signals import callbacks_enqueued

if TYPE_CHECKING:
    from collections.abc import Iterable


def wake_delivery(*, callbacks: Iterable[Callback], **kwargs: Any) -> None:
    """Ask for a delivery once the callbacks are committed."""
    ids = [callback.pk for callback in callbacks]

    using = router.db_for_write(Callback)

    def wake() -> None:
        tasks.deliver_callbacks.enqueue(ids)

    def notify() -> None:
        if not tasks.run_at_once():
            wakeup.notify(using)

    # Robust: a broker that is down must not break the site's request; the row waits in the outbox.
    # Functions, not partials, which have no name for Django to log.
    transaction.on_commit(wake, using=using, robust=True)
    transaction.on_commit(notify, using=using, robust=True)


def know_host(*, instance: Subscription, using: str, **kwargs: Any) -> None:
    """Let deliveries look for what waits for a subscription's host."""
    if instance.callback_url:
        try:
            url = callbackurl.render(instance.callback_url, {})
        except InvalidCallbackURL:
            return  # of the predecessor's; its callbacks are given up when they are made
        outbox.know([callbackurl.host(url)], using)


def give_up_waiting(*, instance: Subscription, using: str, **kwargs: Any) -> None:
    """Cancel what waits for a subscription that is switched off, when it is deleted.

    Nobody could switch it on any more; and without it nothing would say that it is not to be sent.
    """
    if instance.off_since is not None:
        rows = Callback.objects.using(using).filter(subscription=instance.pk).waiting()
        outbox.cancel_all(rows, reason="The subscription was deleted while it was switched off.")


def identify_at_login(*, request: Any, user: Any, **kwargs: Any) -> None:
    """Tie the browser's visitors to the user that it has become."""
    if request is not None:
        services.guarded(partial(visits.identify, request, user), "Visitors were not identified")


def identify_at_registration(
    *, instance: Any, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """Tie the browser's visitors to the user that somebody, not logged in, has just become."""
    request = current_request.get()
    if created and not raw and request is not None and visits.user_of(request) is None:
        visits.identify_newcomer(request, instance)


def forget_cached_partner(*, instance: Any, **kwargs: Any) -> None:
    """See a change of a partner at once in the process that made it."""
    partners.forget(instance.uid)


def reconnect_triggers(*, setting: str, **kwargs: Any) -> None:
    """Follow a change of the triggers, in tests."""
    if setting == "AFFILIATE_TRIGGERS":
        firing.connect()


def connect() -> None:
    """Connect everything in this module, once."""
    callbacks_enqueued.connect(wake_delivery, dispatch_uid="affiliations.wake")
    # Before the triggers, so that one for the login finds what the login has brought to light.
    user_logged_in.connect(identify_at_login, dispatch_uid="affiliations.identify")
    post_save.connect(
        identify_at_registration,
        sender=get_user_model(),
        dispatch_uid="affiliations.identify",
    )
    for signal in (post_save, post_delete):
        signal.connect(forget_cached_partner, sender=Partner, dispatch_uid="affiliations.partner")
    post_save.connect(know_host, sender=Subscription, dispatch_uid="affiliations.host")
    pre_delete.connect(give_up_waiting, sender=Subscription, dispatch_uid="affiliations.deleted")
    setting_changed.connect(reconnect_triggers, dispatch_uid="affiliations.triggers")
