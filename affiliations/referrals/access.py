"""What may be allowed through the API; nothing here is any partner's."""

from __future__ import annotations

from ..access import Right

__all__ = [
    "CHANGE",
    "CREATE",
    "DELETE",
    "INDICATE",
    "READ",
    "REGISTER",
    "REPORT",
    "STATEMENT",
    "VERIFY",
]


def _right(word: str, permission: str) -> Right:
    return Right(f"referrals:{word}", f"affiliations_referrals.{permission}", of_partners=False)


READ = _right("read", "view_program")
STATEMENT = _right("read", "view_member")
CREATE = _right("write", "add_program")
CHANGE = _right("write", "change_program")
DELETE = _right("write", "delete_program")
REGISTER = _right("register", "add_member")
REPORT = _right("register", "change_member")
INDICATE = _right("register", "add_emailindication")
VERIFY = _right("read", "view_emailindication")
