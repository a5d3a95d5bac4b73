"""Report everything that is wrong with the settings, at once, each by an id of its own.

Errors E001 to E019 are those of the settings, see conf.py. The rest:

- E020: an item of AFFILIATE_TRIGGERS is not of a form that can be read
- E021 to E023: its signal, receiver or sender does not resolve
- E024: two triggers have one name
- E025: an option of a trigger cannot be used
- E030: sessions are missing
- E031: the middleware stands before SessionMiddleware
- W032: the middleware is missing
- W033: the middleware stands before AuthenticationMiddleware
- E034: a dotted path in a setting does not resolve
- W040: a subscription names a trigger that neither the settings nor an app do
- W041: the site's key that a partner's secret was made with is gone
- W042: the first attempt at a callback is made in the visitor's request; `check --deploy` asks
- W043: tables of MariaDB or MySQL cannot hold all that people may write
- W044: on MariaDB or MySQL, text that has to be compared exactly is not
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning
from django.core.checks import register as register_check
from django.db import DatabaseError, connections
from django.dispatch import Signal
from django.utils.module_loading import import_string

from . import firing, tasks
from .conf import Group, settings
from .fields import ExactCharField
from .models import Partner, Subscription
from .models.partners import site_keys
from .signals import callbacks_enqueued
from .signing import key_fingerprint
from .triggers import Trigger

__all__ = [
    "check_database",
    "check_delivery",
    "check_middleware",
    "check_settings",
    "check_triggers",
    "register",
]

AppConfigs = Sequence[AppConfig] | None
EXACT = "ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
MAX_TRIGGER_NAME = 100
OURS = "affiliations.middleware.AffiliateMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def register() -> None:
    """Register the checks: one asks the database, one is for a site that goes live."""
    for check in (check_settings, check_triggers, check_middleware):
        register_check(check, "affiliations")
    register_check(check_delivery, "affiliations", deploy=True)
    register_check(check_database, Tags.database)


def check_settings(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the core against its rule."""
    found = against_rules(settings)
    for name in ("ATTRIBUTION", "CONSENT"):
        value = getattr(settings, name)
        if isinstance(value, str) and value not in ("last", "first") and "." in value.strip("."):
            found += resolves(value, f"AFFILIATE_{name}", "affiliations.E034", callable)
    return found


def against_rules(group: Group) -> list[CheckMessage]:
    """Hold every setting of an app against its rule."""
    found: list[CheckMessage] = []
    for setting in group.declared():
        value = getattr(group, setting.name)
        if problem := setting.rule(value):
            is_now = "It is not shown, as it is secret" if setting.secret else f"It is {value!r}"
            hint = f"{is_now}; the default is {setting.default!r}."
            found.append(Error(f"{setting.setting} {problem}.", hint=hint, id=setting.check_id))
    return found


def resolves(path: Any, what: str, check_id: str, fits: Any) -> list[CheckMessage]:
    try:
        value = firing.resolve(path)
    except Exception as error:  # noqa: BLE001 - importing the site's module may raise anything
        hint = f"{type(error).__name__}: {error}"
        return [Error(f"{what}: {path!r} cannot be imported.", hint=hint, id=check_id)]
    if fits(value):
        return []
    return [Error(f"{what}: {path!r} is {value!r}, which is of no use there.", id=check_id)]


def _is_plain_function(value: Any) -> bool:
    """Tell whether a signal can call it: what a coroutine function returns, nobody would await."""
    called = value if inspect.isfunction(value) else getattr(type(value), "__call__", value)  # noqa: B004
    return callable(value) and not inspect.iscoroutinefunction(called)


def check_triggers(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """Hold every item of AFFILIATE_TRIGGERS against what a trigger is."""
    found: list[CheckMessage] = []
    if not isinstance(settings.TRIGGERS, list | tuple):
        return found
    names: dict[str, int] = {}
    for position, item in enumerate(settings.TRIGGERS):
        where = f"AFFILIATE_TRIGGERS[{position}]"
        if (
            not isinstance(item, list | tuple)
            or not 4 <= len(item) <= len(Trigger._fields)
            or not isinstance(item[0], str)
            or not 0 < len(item[0]) <= MAX_TRIGGER_NAME
        ):
            hint = "It takes (name, signal, receiver, sender), with a name of 1 to 100 characters."
            found.append(Error(f"{where} is {item!r}.", hint=hint, id="affiliations.E020"))
            continue
        trigger = Trigger(*item)
        if (earlier := names.setdefault(trigger.name.casefold(), position)) != position:
            message = f"{where} has the name of AFFILIATE_TRIGGERS[{earlier}], {trigger.name!r}."
            hint = "Subscriptions name a trigger: two of one name cannot be told apart."
            found.append(Error(message, hint=hint, id="affiliations.E024"))
        found += _check_trigger(trigger, f"{where} ({trigger.name!r})")
    return found


def _check_trigger(trigger: Trigger, where: str) -> Iterable[CheckMessage]:
    yield from resolves(
        trigger.signal, f"{where}, signal", "affiliations.E021", lambda it: isinstance(it, Signal)
    )
    yield from resolves(
        trigger.receiver, f"{where}, receiver", "affiliations.E022", _is_plain_function
    )
    try:
        firing.resolve_sender(trigger.sender)
    except Exception as error:  # noqa: BLE001 - importing the site's module may raise anything
        message = f"{where}, sender: {trigger.sender!r} is neither a model nor can be imported."
        hint = f"{type(error).__name__}: {error}"
        yield Error(message, hint=hint, id="affiliations.E023")
    for name in ("user", "visitor", "amount", "currency", "reference"):
        finder = getattr(trigger, name)
        if not (finder is None or callable(finder) or (isinstance(finder, str) and finder)):
            message = f"{where}, {name}: {finder!r} is neither an attribute path nor a callable."
            yield Error(message, id="affiliations.E025")
    if not isinstance(trigger.repeat, bool):
        message = f"{where}, repeat: {trigger.repeat!r} is neither True nor False."
        yield Error(message, id="affiliations.E025")
    if trigger.amount is not None and trigger.currency is None:
        message = f"{where}, currency: an amount is of no use without its currency."
        yield Error(message, hint="Say currency='EUR', say.", id="affiliations.E025")


def _position(path: str) -> int | None:
    """Return where MIDDLEWARE has the class with this path, or the site's own one made of it."""
    wanted = _imported(path)
    for position, listed in enumerate(django_settings.MIDDLEWARE):
        found = _imported(listed)
        if isinstance(found, type) and isinstance(wanted, type) and issubclass(found, wanted):
            return position
    return None


def _imported(path: str) -> Any:
    """Return what a path names; None where it names nothing, as Django will say itself."""
    try:
        return import_string(path)
    except Exception:  # noqa: BLE001 - importing the site's module may raise anything
        return None


def check_middleware(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """See that the middleware is there, and finds a session and a user where it stands."""
    found: list[CheckMessage] = []
    ours, sessions, users = (_position(path) for path in (OURS, SESSION, AUTHENTICATION))
    if ours is None:
        hint = f"Add {OURS!r} below AuthenticationMiddleware."
        message = (
            "MIDDLEWARE has no AffiliateMiddleware: no visitor is ever recorded, and no browser "
            "is known again."
        )
        return [Warning(message, hint=hint, id="affiliations.W032")]
    if sessions is None:
        hint = f"Add {SESSION!r} above AffiliateMiddleware."
        message = "AffiliateMiddleware needs sessions, and MIDDLEWARE has none."
        found.append(Error(message, hint=hint, id="affiliations.E030"))
    elif sessions > ours:
        hint = "Move AffiliateMiddleware below it."
        message = "AffiliateMiddleware stands before SessionMiddleware."
        found.append(Error(message, hint=hint, id="affiliations.E031"))
    if users is not None and users > ours:
        hint = "Move AffiliateMiddleware below it."
        message = (
            "AffiliateMiddleware stands before AuthenticationMiddleware: users who are logged in "
            "are not recognised when they follow an affiliate link."
        )
        found.append(Warning(message, hint=hint, id="affiliations.W033"))
    return found


def check_delivery(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """See that no visitor waits for a partner's server."""
    # A site that has disconnected it leaves the first attempt to the command.
    woken = any(key[0] == "affiliations.wake" for key, *_ in callbacks_enqueued.receivers)
    if not woken or not tasks.run_at_once():
        return []
    message = (
        "The first attempt at each callback is made in the visitor's request, which it may hold up "
        f"for {tasks.SHORT:.0f} seconds."
    )
    hint = (
        "Configure a backend with a worker in TASKS, or disconnect 'affiliations.wake' and run "
        "`manage.py deliver_callbacks --loop`."
    )
    return [Warning(message, hint=hint, id="affiliations.W042")]


def check_database(
    app_configs: AppConfigs, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """See that what is stored still fits the settings."""
    found: list[CheckMessage] = []
    names = firing.subscribable()
    keys = {key_fingerprint(key) for key in site_keys()}
    for alias in databases or ():
        try:
            strays = list(
                Subscription.objects.using(alias)
                .exclude(trigger__in=names)
                .values_list("trigger", flat=True)
                .distinct()
                .order_by("trigger")
            )
            orphans = Partner.objects.using(alias).exclude(secret_fingerprint__in=keys).count()
            narrow, inexact = _compared(alias)
        except DatabaseError:
            continue  # not migrated yet
        for name in strays:
            hint = "Add the trigger again, or change or delete its subscriptions in the admin."
            message = (
                f"Partners are subscribed to {name!r}, which neither AFFILIATE_TRIGGERS nor an app "
                "names."
            )
            found.append(Warning(message, hint=hint, id="affiliations.W040"))
        if orphans:
            message = (
                f"{orphans} partners' signing secrets were made with a SECRET_KEY that is gone."
            )
            hint = "Put it into SECRET_KEY_FALLBACKS, or issue new secrets in the admin."
            found.append(Warning(message, hint=hint, id="affiliations.W041"))
        if narrow:
            message = f"{', '.join(narrow)}: not all of the text there is utf8mb4."
            hint = f"What visitors and partners write may be refused there. {EXACT} makes room."
            found.append(Warning(message, hint=hint, id="affiliations.W043"))
        if inexact:
            message = f"{', '.join(inexact)}: ABC and abc would be taken for the same."
            hint = f"Something has changed how they compare. {EXACT} makes them differ again."
            found.append(Warning(message, hint=hint, id="affiliations.W044"))
    return found


def _compared(alias: str) -> tuple[list[str], list[str]]:
    """Return the tables of the suite that refuse some of what people write, and columns at fault.

    The latter take text for the same that they have to tell apart: whatever converts all columns of
    a table to one collation takes theirs from them. On MariaDB and MySQL only.
    """
    if connections[alias].vendor != "mysql":
        return [], []
    ours = [each for each in apps.get_app_configs() if each.name.split(".")[0] == __package__]
    columns = {
        (model._meta.db_table, field.column): isinstance(field, ExactCharField)
        for each in ours
        for model in each.get_models(include_auto_created=True)
        for field in model._meta.local_concrete_fields
    }
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name, character_set_name, collation_name"
            " FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND character_set_name IS NOT NULL"
        )
        found = [row for row in cursor.fetchall() if row[:2] in columns]
    narrow = {table for table, _column, characters, _collation in found if characters != "utf8mb4"}
    inexact = [
        f"{table}.{column}"
        for table, column, _characters, collation in found
        # Of a narrow table all is converted anyway.
        if table not in narrow and columns[table, column] and not collation.endswith("_bin")
    ]
    return sorted(narrow), sorted(inexact)
