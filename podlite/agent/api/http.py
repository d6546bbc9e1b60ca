"""Requests and answers in the API's form: JSON of v1 objects, Status errors, bodies with a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response, StreamingResponse

from podlite import log
from podlite.agent.api.errors import ApiError, bad_request, internal, too_large
from podlite.cri.errors import CRIError
from podlite.errors import PodliteError, explain

if TYPE_CHECKING:
    from starlette.requests import Request

JSON = "application/json"
# apiserver's limit for a request is 3 MiB.
MOST_BODY = 3 << 20

encode = msgspec.json.Encoder().encode
Handler = Callable[["Request"], Awaitable[Response]]


def answer(value: Any, code: int = 200) -> Response:
    """An object, as JSON."""
    return Response(encode(value), code, media_type=JSON)


def answer_list(kind: str, items: list[Any], version: int) -> Response:
    """A list of objects, each with its own kind."""
    meta = {"resourceVersion": str(version)}
    return answer({"kind": kind, "apiVersion": "v1", "metadata": meta, "items": items})


def answer_texts(kind: str, items: list[bytes], version: int) -> Response:
    """A list of objects that are JSON already."""
    head = encode({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": str(version)}})
    return Response(head[:-1] + b',"items":[' + b",".join(items) + b"]}", media_type=JSON)


def answer_error(error: ApiError) -> Response:
    return answer(error.status, error.code)


def handled(handler: Handler) -> Handler:
    """The handler with its errors as Status answers; what was not foreseen is logged, and does not end the agent."""

    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except ApiError as error:
            return answer_error(error)
        except (PodliteError, CRIError) as error:
            return answer_error(internal(str(error)))
        except OSError as error:
            log.error("a request failed", path=request.url.path, why=explain(error))
            return answer_error(internal(explain(error)))
        except Exception as error:
            log.error("a request failed unexpectedly", path=request.url.path, why=repr(error), exc_info=True)
            return answer_error(internal(explain(error)))

    return wrapped


async def read_body(request: Request) -> bytes:
    """The body. Raises ApiError for one that is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise too_large(MOST_BODY)
    return bytes(body)


def flag(request: Request, name: str) -> bool:
    """A boolean parameter, as Go's ParseBool with the API's leniency: given without a value it is true."""
    text = request.query_params.get(name)
    if text is None:
        return False
    if text.lower() in ("", "1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise bad_request(f"{name}: invalid value {text!r}: it is true or false")


def number(request: Request, name: str) -> int | None:
    """A whole number that is not negative, or None if it is not given."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise bad_request(f"{name}: invalid value {text!r}: it is a whole number that is not negative")
    return int(text)


class StreamedLines(StreamingResponse):
    """Answers that come bit by bit; compression, or a buffer in between, would hold them up."""

    def __init__(self, content: AsyncIterator[bytes], media_type: str) -> None:
        super().__init__(content, media_type=media_type, headers={"Cache-Control": "no-cache, private"})
