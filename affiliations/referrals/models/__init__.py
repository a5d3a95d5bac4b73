"""The referrals' tables."""

from .invoices import Invoice
from .members import Member, make_code
from .operations import Operation
from .programs import Program

__all__ = ["Invoice", "Member", "Operation", "Program", "make_code"]
