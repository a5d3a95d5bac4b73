"""The referrals' tables."""

from .indications import EmailIndication, MailRefusal
from .invoices import Invoice
from .members import Member, make_code
from .operations import Operation
from .programs import Program

__all__ = [
    "EmailIndication",
    "Invoice",
    "MailRefusal",
    "Member",
    "Operation",
    "Program",
    "make_code",
]
