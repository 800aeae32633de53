"""What an error answer means, in the words of upstream's client (apimachinery api/errors,
NewGenericServerResponse): they end up in the messages people see and search for."""

from __future__ import annotations

import orjson

from .target import CallFailed

MAX_TEXT = 2048
"""Bytes of a plain-text error that are passed on, as upstream."""

WORDS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    410: "the server could not find the requested resource",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be "
    "processing the request",
}
TOLD = frozenset({403, 406, 415})
"""What the server says is the message."""


def error_in(status: int, content_type: str, body: bytes) -> CallFailed | None:
    """The failure an answer stands for; None for a success."""
    if 200 <= status <= 206:
        return None
    text = _status_message(body)
    if text:
        return CallFailed(text, status)
    told = "unknown"
    if not content_type or content_type.startswith("text/"):
        told = body[:MAX_TEXT].decode(errors="replace").strip() or told
    if status in TOLD:
        return CallFailed(told, status)
    if status in WORDS:
        return CallFailed(WORDS[status], status)
    if status >= 500:
        quoted = orjson.dumps(told).decode()
        return CallFailed(
            f"an error on the server ({quoted}) has prevented the request from succeeding", status
        )
    return CallFailed(
        f"the server responded with the status code {status} but did not return more information",
        status,
    )


def _status_message(body: bytes) -> str:
    """The message of a Status object, "" if the body is none."""
    if not body.startswith(b"{") or b'"Status"' not in body:
        return ""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if isinstance(value, dict) and value.get("kind") == "Status":
        message = value.get("message")
        return message if isinstance(message, str) else ""
    return ""
