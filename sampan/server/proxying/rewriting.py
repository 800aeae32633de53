"""Links of a proxied answer, turned into links through the proxy. Pure.

The rules are upstream's (apimachinery util/proxy/transport.go): links with a path from the root
that stay on the host get the proxy's prefix; relative ones and those to other hosts stay. In HTML,
the attributes that are links are rewritten and every other byte is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape, unescape
from posixpath import normpath
from typing import Final
from urllib.parse import urlsplit, urlunsplit

LINKS: Final[Mapping[bytes, frozenset[bytes]]] = {
    tag.encode(): frozenset(name.encode() for name in names.split())
    for tag, names in {
        "a": "href",
        "applet": "codebase",
        "area": "href",
        "audio": "src",
        "base": "href",
        "blockquote": "cite",
        "body": "background",
        "button": "formaction",
        "command": "icon",
        "del": "cite",
        "embed": "src",
        "form": "action",
        "frame": "longdesc src",
        "head": "profile",
        "html": "manifest",
        "iframe": "longdesc src",
        "img": "longdesc src usemap",
        "input": "formaction src usemap",
        "ins": "cite",
        "link": "href",
        "object": "classid codebase data usemap",
        "q": "cite",
        "script": "src",
        "source": "src",
        "video": "poster src",
    }.items()
}
TAG_MAX: Final = 64 << 10
"""A tag longer than this is passed on unread."""
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9]*")
# A name is taken whole, from where it begins: a long word would else cost its square.
_ATTRIBUTE = re.compile(
    rb"""(?<![^\s"'>/=])([^\s"'>/=]++)(\s*+=\s*+)("[^"]*"|'[^']*'|[^\s"'>]+)""",
)
# Text in which "<" begins no tag, until its own end.
_RAW: Final = (b"script", b"style", b"textarea", b"title")


def rewrite_link(link: str, prefix: str, hosts: frozenset[str]) -> str:
    """`hosts` are the backend's address and the Host header of the request."""
    try:
        url = urlsplit(link)
    except ValueError:
        return link
    if (url.netloc and url.netloc not in hosts) or not url.path.startswith("/"):
        return link
    path = url.path
    if not path.startswith(prefix):
        joined = normpath(f"{prefix}/{path}")
        path = joined + ("/" if path.endswith("/") and not joined.endswith("/") else "")
    return urlunsplit(("", "", path, url.query, url.fragment))


class HtmlRewriter:
    """`feed` pieces of a page, take pieces back; then `finish`."""

    def __init__(self, prefix: str, hosts: frozenset[str]) -> None:
        self._prefix = prefix
        self._hosts = hosts
        self._rest = b""
        self._raw = b""
        """The tag whose raw text we are in."""

    def feed(self, data: bytes) -> bytes:
        text = self._rest + data
        out: list[bytes] = []
        at = 0
        while True:
            start = text.find(b"<", at)
            if start < 0:
                out.append(text[at:])
                self._rest = b""
                break
            out.append(text[at:start])
            end = self._end(text, start)
            if end < 0:
                if len(text) - start > TAG_MAX:
                    out.append(text[start:])
                    start = len(text)
                self._rest = text[start:]
                break
            out.append(self._tag(text[start:end]))
            at = end
        return b"".join(out)

    def finish(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest

    def _end(self, text: bytes, start: int) -> int:
        """Behind the tag or comment that begins at `start`; -1 when it goes on."""
        if text.startswith(b"<!--", start) and not self._raw:
            end = text.find(b"-->", start + 4)
            return end + 3 if end >= 0 else -1
        if len(text) - start < len(b"</textarea") and b">" not in text[start:]:
            return -1
        if self._raw or not (text[start + 1 : start + 2].isalpha()):
            # An end tag, a declaration, or a "<" that is text.
            closing = text.find(b">", start) if text[start + 1 : start + 2] in b"/!?" else start
            return closing + 1 if closing >= 0 else -1
        at = start
        while True:
            quoted = min(
                (found for found in (text.find(q, at) for q in (b'"', b"'")) if found >= 0),
                default=-1,
            )
            closing = text.find(b">", at)
            if closing < 0 or not 0 <= quoted < closing:
                return closing + 1 if closing >= 0 else -1
            matching = text.find(text[quoted : quoted + 1], quoted + 1)
            if matching < 0:
                return -1
            at = matching + 1

    def _tag(self, tag: bytes) -> bytes:
        if self._raw:
            if tag[:2] == b"</" and tag[2:].lower().startswith(self._raw):
                self._raw = b""
            return tag
        name = _NAME.match(tag, 1)
        if name is None:
            return tag
        word = name.group().lower()
        if word in _RAW and not tag.endswith(b"/>"):
            self._raw = word
        links = LINKS.get(word)
        if links is None:
            return tag

        def change(found: re.Match[bytes]) -> bytes:
            if found.group(1).lower() not in links:
                return found.group()
            quoted = found.group(3)
            mark = quoted[:1] if quoted[:1] in (b'"', b"'") else b""
            old = quoted.strip(mark) if mark else quoted
            link = unescape(old.decode("utf-8", "surrogateescape"))
            made = rewrite_link(link, self._prefix, self._hosts)
            if made == link:
                return found.group()
            text = escape(made).encode("utf-8", "surrogateescape")
            return found.group(1) + found.group(2) + (mark or b'"') + text + (mark or b'"')

        return tag[: name.end()] + _ATTRIBUTE.sub(change, tag[name.end() :])
