"""Tell providers by files whom to pay, and read from theirs what became of it.

A file of PayPal's Payouts Web has no heading; its columns are the recipient, the amount, the
currency, a customer ID of up to 30 characters without blanks, a note and the recipient's wallet
(developer.paypal.com/payouts/web). One of Wise's has the columns of its template for recipients
who are known by their e-mail address (wise.com/help/articles/2663302).

What statuses providers know they say (developer.paypal.com/api/payments.payouts-batch,
docs.wise.com/api-docs/api-reference/transfer); how the columns of the files are called in which
they tell of them they do not: PayPal's activity report has those that its reader has chosen. So
several names are known, and whoever imports one is shown first what is understood.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from io import StringIO
from itertools import groupby, islice
from typing import Any, NamedTuple

from django.db import router, transaction
from django.utils.translation import gettext as _

from .. import csvexport
from ..exceptions import InvalidMoney, InvalidTransition
from ..money import DECIMAL_PLACES, Money
from . import payouts
from .exceptions import InvalidResultFile
from .models import Method, Payout, PayoutBatch
from .models.payouts import MAX_REFERENCE
from .settling import is_reference

__all__ = ["Line", "Result", "apply", "check", "files", "read"]


# For a provider


class Format(NamedTuple):
    """How a provider wants to be told: its heading, if any, a line, and how many it takes."""

    heading: tuple[str, ...]
    cells: Callable[[Payout], tuple[Any, ...]]
    most: int


#: Before the reference, in what is said to the recipient.
NOTE = "Payout "


def _paypal(payout: Payout) -> tuple[Any, ...]:
    money = payout.money
    note = f"{NOTE}{payout.reference}"
    return payout.email, money.amount, money.currency, payout.reference, note, "PAYPAL"


WISE = (
    "name",
    "recipientEmail",
    "paymentReference",
    "receiverType",
    "amountCurrency",
    "amount",
    "sourceCurrency",
    "targetCurrency",
)


def _wise(payout: Payout) -> tuple[Any, ...]:
    money = payout.money
    # The amount is what arrives: the fees are the site's.
    kinds = ("PERSON", "target")
    currencies = (money.currency, money.currency)
    return payout.name, payout.email, payout.reference, *kinds, money.amount, *currencies


FORMATS = {
    Method.PAYPAL: Format((), _paypal, 5000),
    Method.WISE: Format(WISE, _wise, 1000),
}


def files(batch: PayoutBatch, method: str, *, commas: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files by which what `send_batch` has sent is paid.

    As many as the provider's limit makes necessary, and the same ones each time, but for what is
    settled since. A payout's `reference` stands in it, by which the provider's answer is read.
    With `commas`, as PayPal wants it in countries where they are the decimal ones.
    """
    form = FORMATS[Method(method)]
    rows = Payout.objects.using(router.db_for_write(Payout)).filter(batch=batch, method=method)
    rows = rows.select_related("account").order_by("sent_on", "pk")
    number = 0
    for _sent_on, sent in groupby(rows.iterator(), key=lambda payout: payout.sent_on):
        while part := list(islice(sent, form.most)):
            number += 1
            left = [payout for payout in part if payout.state == Payout.State.SENT]
            if left:
                yield f"payouts-{batch.pk}-{method}-{number}.csv", _file(form, left, commas)


def _file(form: Format, rows: Sequence[Payout], commas: bool) -> bytes:
    buffer = StringIO()
    # No mark of byte order: PayPal would take it for a part of the first recipient.
    writer = csv.writer(buffer)
    if form.heading:
        writer.writerow(form.heading)
    for payout in rows:
        cells = form.cells(payout)
        if commas:
            cells = tuple(f"{x}".replace(".", ",") if isinstance(x, Decimal) else x for x in cells)
        writer.writerow([csvexport.cell(value) for value in cells])
    return buffer.getvalue().encode()


# From a provider

#: What columns may be called, in small letters without blanks and underscores.
COLUMNS = {
    "reference": ("customerid", "senderitemid", "uniqueid", "paymentreference", "reference"),
    "status": ("status", "transactionstatus"),
    "provider_reference": ("transactionid", "transferid", "id"),
    "reason": ("reason", "errormessage", "error"),
    "amount": ("amount", "gross"),
    "currency": ("currency", "targetcurrency"),
}
REQUIRED = ("reference", "status")
PAID, FAILED, RETURNED, OPEN = "paid", "failed", "returned", "open"
#: The money is back at the site's: whatever was paid before is so no more.
BACK = "back"
#: What providers say, spelt as the columns are. Of all else we do not guess what it means.
STATUSES = {
    "completed": PAID,
    "success": PAID,
    "paid": PAID,
    "outgoingpaymentsent": PAID,
    "failed": FAILED,
    "denied": FAILED,
    "returned": BACK,
    "refunded": BACK,
    "fundsrefunded": BACK,
    "reversed": BACK,
    "cancelled": FAILED,
    "canceled": FAILED,
    "pending": OPEN,
    "processing": OPEN,
    "unclaimed": OPEN,
    "onhold": OPEN,
    "blocked": OPEN,
    "incomingpaymentwaiting": OPEN,
    "fundsconverted": OPEN,
    "bouncedback": OPEN,
}
#: Of 5,450 nobody can tell which it is; so something else has to: the other mark, the same one
#: again, as many digits as no group has, or a currency that has no decimals to be set apart.
THOUSANDS = re.compile(r"-?[0-9]{1,3}((,[0-9]{3})+\.[0-9]+|(,[0-9]{3}){2,})", re.ASCII)
WHOLE_THOUSANDS = re.compile(r"-?[0-9]{1,3}(,[0-9]{3})+", re.ASCII)
COMMAS = re.compile(
    r"-?([0-9]{1,3}((\.[0-9]{3})+,[0-9]+|(\.[0-9]{3}){2,})|[0-9]+,[0-9]{1,2}|(0|[0-9]{4,}),[0-9]{3})",
    re.ASCII,
)
AT_ONCE = 500


@dataclass(slots=True)
class Line:
    """A line of a provider's file: what it says, of which payout, and what is wrong with it."""

    number: int
    values: dict[str, str]
    outcome: str = OPEN
    payout: Payout | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """Tell whether anything becomes of the payout by it."""
        return self.payout is not None and self.outcome not in (OPEN, self.payout.state)


class Result(NamedTuple):
    """What became of payouts by a file, and how many are as they were."""

    paid: int
    failed: int
    returned: int
    unchanged: int


def read(data: bytes) -> list[Line]:
    """Return the lines of a provider's file below its heading.

    Raises InvalidResultFile where it has none, or no columns for the reference and the status.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidResultFile(_("It is not written in UTF-8.")) from error
    separator = csvexport.separator_of(text)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    names: dict[str, int] | None = None
    lines: list[Line] = []
    try:
        for row in reader:
            cells = [csvexport.text_of(cell).strip() for cell in row]
            if not any(cells):
                continue
            if names is None:
                names = _columns(cells)
            else:
                said = {name: cells[at] for name, at in names.items() if at < len(cells)}
                lines.append(Line(reader.line_num, said))
    except csv.Error as error:
        text = _("Line %(number)s cannot be read: %(error)s.")
        raise InvalidResultFile(text % {"number": reader.line_num, "error": error}) from error
    if not lines:
        raise InvalidResultFile(_("There is no line below one that names the columns."))
    return lines


def _spelt(text: str) -> str:
    return "".join(text.lower().replace("_", "").split())


def _columns(cells: Sequence[str]) -> dict[str, int]:
    spelt = [_spelt(cell) for cell in cells]
    names: dict[str, int] = {}
    for name, spellings in COLUMNS.items():
        found = [at for at, cell in enumerate(spelt) if cell in spellings]
        if len(found) > 1:
            text = _("There are several columns for the %(name)s.")
            raise InvalidResultFile(text % {"name": name})
        if found:
            names[name] = found[0]
        elif name in REQUIRED:
            text = _("There is no column for the %(name)s.")
            raise InvalidResultFile(text % {"name": name})
    return names


def check(lines: Sequence[Line]) -> bool:
    """Note all that is wrong with each line, and tell whether nothing is: a dry run."""
    rows = Payout.objects.using(router.db_for_write(Payout)).select_related("account__partner")
    for start in range(0, len(lines), AT_ONCE):
        part = lines[start : start + AT_ONCE]
        said = [line.values.get("reference", "").upper() for line in part]
        uids = [uid for uid in map(Payout.uid_of, said) if uid is not None]
        found = {payout.reference: payout for payout in rows.filter(uid__in=uids)}
        for line, reference in zip(part, said, strict=True):
            line.payout = found.get(reference)
    seen: dict[int, Line] = {}
    for line in lines:
        line.problems = list(_problems(line))
        if line.payout is not None:
            other = seen.setdefault(line.payout.pk, line)
            if other is not line:
                text = _("Line %(number)s is of the same payout.")
                line.problems.append(text % {"number": other.number})
    return not any(line.problems for line in lines)


def _problems(line: Line) -> Iterator[str]:
    status = line.values.get("status", "")
    said = STATUSES.get(_spelt(status))
    if said is None:
        yield _("status: “%(status)s” is none that is known.") % {"status": status[:40]}
    line.outcome = _outcome(said, line.payout)
    if not is_reference(line.values.get("provider_reference", "")):
        text = _("provider_reference: must be at most %(most)s characters, none a control one.")
        yield text % {"most": MAX_REFERENCE}
    payout = line.payout
    if payout is None:
        yield _("reference: there is no such payout.")
        return
    begins = Payout.State.PAID if line.outcome == RETURNED else Payout.State.SENT
    if line.changes and payout.state != begins:
        text = _("status: it says “%(status)s”, but of the payout is known: %(state)s.")
        yield text % {"status": status[:40], "state": payout.get_state_display()}
    if amount := line.values.get("amount"):
        currency = line.values.get("currency") or payout.money.currency
        try:
            money = Money.of(_plain(amount, currency), currency)
        except InvalidMoney as error:
            yield str(error)
        else:
            # What is taken off the sender's own account has a minus at PayPal.
            if payout.money not in (money, -money):
                text = _("amount: it says %(said)s, but the payout is of %(money)s.")
                yield text % {"said": money, "money": payout.money}


def _outcome(said: str | None, payout: Payout | None) -> str:
    """Return what becomes of a payout of which somebody says so."""
    state = payout.state if payout else ""
    if said == BACK:
        return RETURNED if state in (Payout.State.PAID, Payout.State.RETURNED) else FAILED
    if said == PAID and state == Payout.State.RETURNED:
        # An earlier file, once more: it was paid, before it came back.
        return RETURNED
    return said or OPEN


def _plain(amount: str, currency: str) -> str:
    """Return an amount as we write it, where it has but one meaning in a currency."""
    is_whole = DECIMAL_PLACES.get(currency.upper()) == 0 and WHOLE_THOUSANDS.fullmatch(amount)
    if is_whole or THOUSANDS.fullmatch(amount):
        return amount.replace(",", "")
    if COMMAS.fullmatch(amount):
        return amount.replace(".", "").replace(",", ".")
    return amount


def apply(lines: Sequence[Line]) -> Result:
    """Note of all payouts what the lines say, or of none; the same file again changes nothing.

    Sends `payout_settled`, and `entry_posted` for those that have failed. Raises InvalidResultFile
    where something is wrong with a line; `check` has noted what.
    """
    if not check(lines):
        wrong = sum(bool(line.problems) for line in lines)
        text = _("%(wrong)s of %(all)s lines cannot be so, and nothing was changed.")
        raise InvalidResultFile(text % {"wrong": wrong, "all": len(lines)})
    counted = {PAID: 0, FAILED: 0, RETURNED: 0, OPEN: 0}
    try:
        with transaction.atomic(using=router.db_for_write(Payout)):
            for line in lines:
                counted[_settle(line)] += 1
    except InvalidTransition as error:
        text = _("Nothing was changed, because meanwhile something else was: %(error)s.")
        raise InvalidResultFile(text % {"error": error}) from error
    return Result(*(counted[each] for each in (PAID, FAILED, RETURNED, OPEN)))


def _settle(line: Line) -> str:
    payout = line.payout
    if payout is None or not line.changes:
        return OPEN
    if line.outcome == PAID:
        payouts.mark_paid(payout, line.values.get("provider_reference", ""))
    else:
        settle = payouts.mark_returned if line.outcome == RETURNED else payouts.fail
        settle(payout, line.values.get("reason") or line.values["status"])
    return line.outcome
