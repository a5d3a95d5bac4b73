"""Hand signals to the receivers of their triggers, and complete what these ask for.

The public names of this module are those of `affiliations.triggers`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import models, router
from django.dispatch import Signal
from django.http import HttpRequest
from django.utils.module_loading import import_string

from . import ident, savepoints, services, visits
from .conf import settings
from .context import Firing, current_firing, current_request
from .exceptions import InvalidMoney
from .models import Conversion, Visitor
from .money import DECIMAL_PLACES, Money
from .triggers import Trigger

__all__ = [
    "acomplete_trigger",
    "complete_trigger",
    "object_created",
    "object_saved",
    "signal_sent",
    "user_logged_in",
]

logger = logging.getLogger(__name__)


def declared() -> list[Trigger]:
    """Return the triggers of the settings, those that are of a form that can be read."""
    found = []
    for item in settings.TRIGGERS if isinstance(settings.TRIGGERS, list | tuple) else ():
        if isinstance(item, list | tuple) and 4 <= len(item) <= len(Trigger._fields):
            found.append(Trigger(*item))
    return found


def subscribable() -> list[str]:
    """Return the names that partners may be subscribed to.

    Those of the settings' triggers, and what else is credited: an app says so by `triggers`.
    """
    of_apps = (getattr(each, "triggers", ()) for each in apps.get_app_configs())
    names = [*(trigger.name for trigger in declared()), *chain.from_iterable(of_apps)]
    return list(dict.fromkeys(names))


def resolve_sender(sender: Any) -> Any:
    """Return the class, or whatever else, that a trigger's `sender` names; None for any.

    Raises ImportError or LookupError where nothing is found.
    """
    if not isinstance(sender, str):
        return sender
    if sender == "AUTH_USER_MODEL":
        return get_user_model()
    if sender.count(".") == 1:
        try:
            return apps.get_model(sender)
        except LookupError:
            pass
    return import_string(sender)


def resolve(path: Any) -> Any:
    """Return what a dotted path names; raises ImportError. What is no str is returned as it is."""
    return import_string(path) if isinstance(path, str) else path


_connected: list[tuple[Signal, Any, str]] = []


def connect() -> None:
    """Connect every trigger of the settings, and nothing else any more.

    One that cannot be resolved is left out: the system checks say what is wrong with it.
    """
    while _connected:
        signal, sender, uid = _connected.pop()
        signal.disconnect(sender=sender, dispatch_uid=uid)
    for position, trigger in enumerate(declared()):
        try:
            signal = resolve(trigger.signal)
            receiver = resolve(trigger.receiver)
            sender = resolve_sender(trigger.sender)
        except Exception:  # noqa: BLE001, S112 - importing the site's module may raise anything
            continue
        if not isinstance(signal, Signal) or not callable(receiver):
            continue
        uid = f"affiliations.trigger.{position}"
        handler = partial(fire, trigger, receiver)
        signal.connect(handler, sender=sender, weak=False, dispatch_uid=uid)
        _connected.append((signal, sender, uid))


def fire(trigger: Trigger, receiver: Callable[..., Any], *, sender: Any, **kwargs: Any) -> None:
    """Hand a signal to its trigger's receiver, whose failure stays its own."""
    if kwargs.get("raw"):
        return  # loaddata and its kin restore what has happened long ago
    instance = kwargs.get("instance", kwargs.get("user"))
    token = current_firing.set(Firing(trigger, instance, bool(kwargs.get("created"))))
    using = router.db_for_write(Conversion)
    try:
        with nullcontext() if receiver in GUARDED else savepoints.lazy(using):
            receiver(sender=sender, affiliate_trigger_name=trigger.name, **kwargs)
    except Exception:
        if settings.RAISE_TRIGGER_ERRORS or savepoints.is_lost(using):
            raise
        logger.exception("The trigger %r failed; nothing was credited", trigger.name)
    finally:
        current_firing.reset(token)


def complete_trigger(
    request: Any, affiliate_trigger_name: str, **options: Any
) -> Conversion | None:
    """Credit whoever sent the person for whom a trigger's conditions are met.

    `request` may be None, or stand for the one in progress. `options` override what the trigger of
    that name says, by values, not by paths: `instance`, `user`, `visitor`, `amount` (major units,
    or Money), `currency`, `reference`, `repeat`. Returns the conversion; None where nobody is to be
    credited, or was already. Raises InvalidMoney, naming the field, for an amount that is none, and
    TypeError for an option that does not exist.
    """
    if unknown := options.keys() - {"instance", *Trigger._fields[4:]}:
        raise TypeError(f"complete_trigger() has no option {', '.join(sorted(unknown))}")
    request = _request(request)
    firing = current_firing.get()
    if firing is None or firing.trigger.name != affiliate_trigger_name:
        same = (each for each in declared() if each.name == affiliate_trigger_name)
        trigger = next(same, Trigger(affiliate_trigger_name, "", "", None))
        firing = Firing(trigger, None, False)
    instance = options.get("instance", firing.instance)
    find = partial(_option, options, firing.trigger, instance)

    using = router.db_for_write(Conversion)
    requester = visits.user_of(request)
    with savepoints.lazy(using):
        user = _user(find("user"), instance, requester) or requester
        visitor = find("visitor")
    known: dict[int, str] = {}
    browser = ""
    if requester is None or requester == user:
        known, browser = _known(request)
    if visitor is not None:
        known[_visitor_id(visitor)] = "caller"
    newborn = firing.created and user is not None and user == instance
    # A session is told of its user's earlier visits at login, so for its own user it knows best.
    elsewhere = user is not None and user != requester and not newborn
    if not known and not browser and not elsewhere:
        return None

    with savepoints.lazy(using):
        reference = find("reference")
        money = _money(find("amount"), find("currency"))
    if reference is None and isinstance(instance, models.Model) and instance.pk is not None:
        reference = f"{instance._meta.label_lower}:{instance.pk}"
    conversion = services.record_conversion(
        trigger=affiliate_trigger_name,
        reference="once" if reference is None else str(reference),
        identifies=reference is not None,
        repeat=options.get("repeat", firing.trigger.repeat),
        user=user,
        money=money,
        known=known,
        ident=browser,
    )
    if conversion is not None and settings.END_ON_SUCCESS and request is not None:
        visits.forget(request)
    return conversion


async def acomplete_trigger(
    request: Any, affiliate_trigger_name: str, **options: Any
) -> Conversion | None:
    """Do what `complete_trigger` does, in async code."""
    complete = sync_to_async(complete_trigger)
    return await complete(request, affiliate_trigger_name, **options)


def _request(given: Any) -> Any:
    """Return the request that is meant, or None.

    Receivers for the predecessor pass a proxy, which outlives the request that it stands for, so
    nothing may be kept on it; isinstance() takes it for a request.
    """
    if issubclass(type(given), HttpRequest):
        return given
    if (current := current_request.get()) is not None:
        return current
    try:
        return given if getattr(given, "META", None) is not None else None
    except Exception:  # noqa: BLE001 - a proxy that stands for no request raises what it likes
        return None


def _known(request: Any) -> tuple[dict[int, str], str]:
    """Return the visitors that the request's browser is known by, and its ident."""
    if request is None:
        return {}, ""
    set_by_site = getattr(request, "affiliate_visitor", None)
    if type(set_by_site) is not visits.LazyVisitor:
        return ({set_by_site.pk: "session"} if set_by_site else {}), ""
    browser = ident.read(request)
    return dict.fromkeys(visits.trail(request), "session"), browser


def _option(options: dict[str, Any], trigger: Trigger, instance: Any, name: str) -> Any:
    if name in options:
        return options[name]
    finder = getattr(trigger, name)
    if finder is None or instance is None:
        return None
    if callable(finder):
        return finder(instance)
    if name == "currency" and finder in DECIMAL_PLACES:
        return finder
    value = instance
    for attribute in finder.split("."):
        value = getattr(value, attribute)
        if value is None:
            return None
    return value


def _user(found: Any, instance: Any, requester: Any) -> Any:
    User = get_user_model()
    if found is None and isinstance(instance, User):
        found = instance
    elif found is None and isinstance(instance, models.Model):
        field = next((each for each in instance._meta.fields if each.name == "user"), None)
        if field is not None and field.related_model is User:
            owner_id = getattr(instance, field.attname)
            # To fetch the user that is known already would cost each order a query.
            known = requester is not None and requester.pk == owner_id
            found = requester if known else getattr(instance, field.name)
    if found is None or isinstance(found, AnonymousUser):
        return None
    if not isinstance(found, User):
        raise TypeError(f"user: a {type(found).__name__} is no {User.__name__}")
    return found if found.pk is not None else None


def _visitor_id(visitor: Any) -> int:
    if isinstance(visitor, Visitor):
        return visitor.pk
    if type(visitor) is int:
        return visitor
    raise TypeError(f"visitor: a {type(visitor).__name__} is neither a Visitor nor the id of one")


def _money(amount: Any, currency: Any) -> Money | None:
    if amount is None or isinstance(amount, Money):
        return amount
    if not currency:
        raise InvalidMoney("currency: an amount is of no use without its currency")
    return Money.of(amount, currency)


def object_created(
    sender: Any, instance: Any, affiliate_trigger_name: str, created: Any = None, **kwargs: Any
) -> None:
    """Complete the trigger if the object is a new one; for `post_save`."""
    if created:
        complete_trigger(current_request.get(), affiliate_trigger_name, instance=instance)


def object_saved(
    sender: Any, instance: Any, affiliate_trigger_name: str, created: Any = None, **kwargs: Any
) -> None:
    """Complete the trigger whenever the object is saved; for `post_save`."""
    complete_trigger(current_request.get(), affiliate_trigger_name, instance=instance)


def user_logged_in(
    sender: Any, request: Any, user: Any, affiliate_trigger_name: str, **kwargs: Any
) -> None:
    """Complete the trigger when somebody logs in; for Django's signal of that name."""
    complete_trigger(request, affiliate_trigger_name, instance=user, user=user)


def signal_sent(sender: Any, affiliate_trigger_name: str, **kwargs: Any) -> None:
    """Complete the trigger whenever its signal is sent; for the site's own signals.

    The instance is the signal's `instance`, or else its sender if that is an object of a model.
    """
    instance = kwargs.get("instance", sender if isinstance(sender, models.Model) else None)
    request = kwargs.get("request") or current_request.get()
    complete_trigger(request, affiliate_trigger_name, instance=instance)


#: These touch the database only behind savepoints of `complete_trigger`'s own.
GUARDED = (object_created, object_saved, signal_sent, user_logged_in)
