"""Make, change and delete programs; members keep what was promised when they registered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, router
from django.db.models import ProtectedError
from django.utils.translation import gettext as _

from ..exceptions import InvalidMoney
from ..money import Money, major
from ..savepoints import retried
from .exceptions import InvalidProgram, ProgramInUse, UnknownProgram
from .models import Program
from .services import locked

__all__ = ["change", "create", "delete", "find"]

#: Amounts in major units, by the name of what there is of each in minor ones.
VALUES = {
    "credit_minor": "credit_value",
    "target_minor": "target_value",
    "reward_minor": "reward_value",
}


def find(program_id: int | str) -> Program:
    """Return the program of a number, which may be text; raises UnknownProgram."""
    return _found(Program.objects.using(router.db_for_write(Program)), program_id)


def _found(rows: Any, program_id: int | str) -> Program:
    text = str(program_id)
    # Other alphabets have digits too, and no column holds every number.
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63:
        found: Program | None = rows.filter(pk=int(text)).first()
        if found is not None:
            return found
    raise UnknownProgram(f"program: there is none with the number {text:.40}")


def find_named(text: str) -> Program:
    """Return the program with this number, or else the one of this name; raises UnknownProgram."""
    rows = Program.objects.using(router.db_for_write(Program)).order_by("pk")
    found: list[Program] = []
    if text.isascii() and text.isdecimal() and len(text) < 19:
        found = list(rows.filter(pk=int(text)))
    if not found and text.isprintable():
        found = list(rows.filter(name=text)[:2])
    if not found:
        raise UnknownProgram(_("program: there is no %(text)r") % {"text": text[:80]})
    if len(found) > 1:
        text = _("program: several are called %(text)r; say its number") % {"text": text[:80]}
        raise UnknownProgram(text)
    return found[0]


def create(**told: Any) -> Program:
    """Make a program of its fields.

    Amounts are `credit_value`, `target_value` and `reward_value`, in major units of the currency.
    Raises InvalidProgram, which has the problems by field.
    """
    program = Program()
    _fill(program, told)
    program.save(force_insert=True, using=router.db_for_write(Program))
    return program


def change(program_id: int | str, **told: Any) -> Program:
    """Change these fields of a program, and no others; amounts stay the same in another currency.

    Raises UnknownProgram, and what `create` raises; then nothing has changed.
    """
    using = router.db_for_write(Program)

    def once() -> Program:
        program: Program = locked(Program.objects.using(using), find(program_id).pk)
        _fill(program, told)
        program.save(using=using)
        return program

    return retried(once, using)


def delete(program_id: int | str) -> None:
    """Delete a program without members; raises UnknownProgram, and ProgramInUse where it has any.

    One that is to end is deactivated instead.
    """
    program = find(program_id)
    using = router.db_for_write(Program)
    try:
        retried(lambda: program.delete(using=using), using)
    except (ProtectedError, IntegrityError):
        # The latter where somebody has registered just now.
        raise ProgramInUse("id: it has members; end it by setting active to false") from None


def _fill(program: Program, told: dict[str, Any]) -> None:
    """Give a program what is told of it; raises InvalidProgram."""
    told = dict(told)
    before = program.currency
    program.currency = (told.pop("currency", "") or before).upper()
    amounts = {name: told.pop(value) for name, value in VALUES.items() if value in told}
    errors: dict[str, list[str]] = {}
    for name, value in VALUES.items():
        minor = getattr(program, name)
        amount = amounts.get(name, None if minor is None else major(minor, before))
        try:
            setattr(program, name, _minor(amount, program.currency, name))
        except InvalidMoney as error:
            field, _, said = str(error).partition(": ")
            errors[field if field == "currency" else value] = [said]
    for name, value in told.items():
        setattr(program, name, value)
    try:
        # The constraint says of amounts what their own validators say.
        program.full_clean(validate_constraints=False)
    except ValidationError as error:
        for name, messages in error.message_dict.items():
            errors.setdefault(VALUES.get(name, name), messages)
    if errors:
        raise InvalidProgram(errors)


def _minor(amount: Decimal | int | str | None, currency: str, name: str) -> int | None:
    if amount is None:
        # A reward that nobody has said is as much as the target.
        return None if name == "reward_minor" else 0
    money = Money.of(amount, currency)
    if money.minor < 0:
        raise InvalidMoney("amount: must not be below zero")
    return money.minor
