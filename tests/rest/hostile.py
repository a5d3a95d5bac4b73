"""Hostile bodies, made by hand, and a program that sends them; each API's own says to what."""

import json
from typing import Any

from django.test import Client

from tests.rest.callers import written

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
#: In the place of any value, as it stands in JSON: nothing that a field could be.
VALUES = [
    rb'"\u0000"',
    rb'"a\u0000b"',
    b'"a\x00b"',
    rb'"\ud800"',
    rb'"\udfff\ud800"',
    rb'"\ud83d"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'"\xf4\x90\x80\x80"',
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"1e99999999999999999999",
    b"0e99999999999999999999",
    b"1E+1000000000",
    b"9" * 5000,
    b"-" + b"9" * 5000,
    b"0." + b"1" * 5000,
    str(2**63).encode(),
    str(-(2**63) - 1).encode(),
    str(2**70).encode(),
    b"true",
    b"false",
    b"[]",
    b"{}",
    b"[1]",
    b'["a"]',
    b'{"a": 1}',
    b'[[[[[[[[[[["a"]]]]]]]]]]]',
    b'{"$ne": null}',
    b'{"__class__": "x"}',
    b"[" * 900 + b"]" * 900,
    b'"' + b"x" * 10_000 + b'"',
    '"{}"'.format("\U0001f600" * 5_000).encode(),
]
#: As a whole, with its kind.
BODIES = [
    (b"", JSON),
    (b" ", JSON),
    (b"{", JSON),
    (b"}", JSON),
    (b"null", JSON),
    (b"true", JSON),
    (b"0", JSON),
    (b'""', JSON),
    (b"[]", JSON),
    (b"[{}]", JSON),
    (b"{}{}", JSON),
    (b"{'item_id': 1}", JSON),
    (b'{"item_id": 1,}', JSON),
    (b"\xef\xbb\xbf{}", JSON),
    (b"\xff\xfe{\x00}\x00", JSON),
    (b"\x00\x00\x00{", JSON),
    (b"\x1f\x8b\x08\x00", JSON),
    (b'{"\\ud800": 1}', JSON),
    (b'{"\\u0000": 1}', JSON),
    (b'{"\xff": 1}', JSON),
    (b'{"": 1}', JSON),
    (b'{"' + b"x" * 60_000 + b'": 1}', JSON),
    (b'{"item_id": 1, "item_id": 2}', JSON),
    (b'{"a": {"b": 1, "b": 2}}', JSON),
    (b'{"__proto__": {"user_id": 1}}', JSON),
    (b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", JSON),
    (b'{"a": ' + b'{"a": ' * 9_000 + b"1" + b"}" * 9_000 + b"}", JSON),
    (b"[" * 60_000, JSON),
    (b"{" + b",".join(b'"f%d": 1' % number for number in range(5_000)) + b"}", JSON),
    (b'"' + b"\\u0000" * 10_000 + b'"', JSON),
    (b" " * 70_000 + b"{}", JSON),
    (b'{"item_id": "' + b"x" * 1_000_000 + b'"}', JSON),
    (b"{}", "application/json; charset=utf-16"),
    (b"{}", "application/json; charset=nonsense"),
    (b"{}", "text/plain"),
    (b"<a/>", "application/xml"),
    (b"{}", "application/jsonp"),
    (b"{}", ";;;"),
    (b"{}", "x" * 500),
    (b"%", FORM),
    (b"&&&===", FORM),
    (b"item_id", FORM),
    (b"item_id=%ff&user_id=%00", FORM),
    (b"item_id=%ed%a0%80&user_id=1", FORM),
    (b"item_id=\xff&user_id=\xfe", FORM),
    (b"item_id=1&item_id=2&user_id=1&user_id=2&path=a&path=b", FORM),
    (b"&".join([b"a=1"] * 5_000), FORM),
    (b"a=" + b"%00" * 20_000, FORM),
    (b"item_id[]=1&user_id[$ne]=1&MarketingLandingPage[0]=x", FORM),
    (b"a=1;b=2", "application/x-www-form-urlencoded; charset=utf-16"),
    (b"", MULTIPART),
    (b"--x", MULTIPART),
    (b"--x--", MULTIPART),
    (b"--x\r\n\r\n--x--", MULTIPART),
    (b"{}", "multipart/form-data"),
    (b"--x--", "multipart/form-data; boundary=" + "x" * 300),
    (b"--\xc3\xa9--", "multipart/form-data; boundary=\xe9"),
    (b'--x\r\nContent-Disposition: form-data; name="item_id"\r\n\r\n\xff\xfe\r\n--x--', MULTIPART),
    (b'--x\r\nContent-Disposition: form-data; name="a\x00"\r\n\r\n\x00\r\n--x--', MULTIPART),
    (
        b'--x\r\nContent-Disposition: form-data; name="item_id"; filename="a"\r\n\r\nx\r\n--x--',
        MULTIPART,
    ),
    (
        (
            b"--x\r\nContent-Transfer-Encoding: base64\r\n"
            b'Content-Disposition: form-data; name="item_id"\r\n\r\n!!!\r\n--x--'
        ),
        MULTIPART,
    ),
    (b"--x\r\nContent-Disposition: form-data; name*=utf-8''%ff\r\n\r\nx\r\n--x--", MULTIPART),
    (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 900 + b"--x--", MULTIPART),
    (b"--x\r\n" + b"A: b\r\n" * 9_000 + b"\r\nx\r\n--x--", MULTIPART),
]


class Sender:
    """A program that sends what is hostile; each API's own has what valid bodies are about."""

    #: The API, where it is mounted, and the models that its operations change.
    api: Any
    mount: str
    models: tuple[Any, ...]
    #: Operations that take a body with nothing in it, and then change nothing.
    take_nothing: frozenset[str] = frozenset()
    #: Values that are none of the hostile ones in the place of some fields.
    fitting: dict[str, tuple[bytes, ...]] = {}

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        #: A body of each operation that takes one.
        self.valid: dict[str, dict[str, Any]] = {}
        #: What has to be done before an operation that needs it.
        self.before: dict[str, tuple[str, ...]] = {}
        #: What a parameter of an address is.
        self.places: dict[str, Any] = {}

    @classmethod
    def operations(cls) -> list[str]:
        """Return the operations that take a body."""
        paths = cls.api.get_openapi_schema(path_prefix="")["paths"]
        return [
            f"{method.upper()} {address}"
            for address, operations in paths.items()
            for method, operation in operations.items()
            if "requestBody" in operation
        ]

    def send(self, operation: str, body: bytes, kind: str) -> int:
        """Return the status."""
        method, address = operation.split()
        # Not by the method's name: that would bring a body into the encoding that its kind names.
        answer = self.client().generic(
            method,
            f"{self.mount}{address}".format(**self.places),
            body,
            content_type=kind,
            headers=self.headers,
        )
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json"
            assert answer.json()["code"]
        return int(answer.status_code)

    def client(self) -> Client:
        return Client(raise_request_exception=False)

    def with_one(self, operation: str, value: bytes, field: str) -> bytes:
        """Return a body that is valid but for one field."""
        sent = {**self.valid[operation], field: "PLACE"}
        return json.dumps(sent).encode().replace(b'"PLACE"', value)

    def rows(self) -> str:
        """Return all that a call might change, as text."""
        return written(self.models)
