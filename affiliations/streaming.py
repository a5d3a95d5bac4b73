"""Answer with what is written while it is read, under WSGI and under ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

__all__ = ["streamed"]


def streamed(
    request: HttpRequest, chunks: Iterator[bytes], *, content_type: str
) -> StreamingHttpResponse:
    """Answer with chunks, none of which is empty, without holding all of them; no cache gets it."""
    # Under ASGI Django reads a plain iterator to its end before it sends the first byte.
    content = _in_thread(chunks) if isinstance(request, ASGIRequest) else chunks
    answer = StreamingHttpResponse(content, content_type=content_type)
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # The thread of all synchronous code of a request: its connections are the ones to close.
    following = sync_to_async(lambda: next(chunks, b""))
    while chunk := await following():
        yield chunk
