"""Answer piece by piece, under WSGI and ASGI alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

__all__ = ["streamed"]


def streamed(
    request: HttpRequest, chunks: Iterator[bytes]
) -> Iterator[bytes] | AsyncIterator[bytes]:
    """Return chunks, none of them empty, as a StreamingHttpResponse wants them.

    Under ASGI Django reads a plain iterator to its end before it sends the first byte.
    """
    return _in_thread(chunks) if isinstance(request, ASGIRequest) else chunks


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(chunks, b""))
    while chunk := await following():
        yield chunk
