"""ListOptions of a request: what a list, a watch or a deletion of a collection is asked for.

Decoding and checks follow meta/internalversion (conversion of URL values, ValidateListOptions) and
storage.ValidateListOptions, errors included.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from msgspec import Struct
from orjson import dumps

from sampan.api import errors, fields
from sampan.api.errors import BadRequest, Cause, StatusError
from sampan.wire import json as json_wire

from .body import json_kind
from .exchange import Request

if TYPE_CHECKING:
    from .app import Server

EXACT = "Exact"
NOT_OLDER = "NotOlderThan"
MATCH = "resourceVersionMatch"
MAX_INT64 = (1 << 63) - 1
MAX_UINT64 = (1 << 64) - 1
TOKEN_VERSION = "meta.k8s.io/v1"
NO_TOKEN = re.compile(r"[^A-Za-z0-9_-]")
ILLEGAL = "illegal base64 data at input byte"


class ListOptions(Struct, frozen=True):
    """The parameters apart from selectors. `token` is `continue`."""

    version: str = ""
    match: str = ""
    limit: int = 0
    token: str = ""
    timeout_s: int = 0
    bookmarks: bool = False
    initial: bool | None = None
    """sendInitialEvents, None when it is not said."""


NO_OPTIONS = ListOptions()


def list_options(request: Request, *, watch: bool = False) -> ListOptions:
    """The options of a request. Raises BadRequest for what cannot be read, Invalid for
    combinations upstream refuses."""
    if not request.query:
        return NO_OPTIONS
    options = ListOptions(
        version=request.param("resourceVersion"),
        match=request.param(MATCH),
        limit=_int64(request, "limit"),
        token=request.param("continue"),
        timeout_s=_int64(request, "timeoutSeconds"),
        bookmarks=bool(flag(request, "allowWatchBookmarks")),
        initial=flag(request, "sendInitialEvents"),
    )
    if options.match or options.initial is not None:
        causes = _watch_causes(options) if watch else _list_causes(options)
        if causes:
            raise errors.invalid("meta.k8s.io", "ListOptions", "", causes)
    return options


def flag(request: Request, name: str) -> bool | None:
    """A boolean parameter: anything but "false" and "0" is true, the empty text too."""
    values = request.query.get(name)
    return None if not values else truth(values[0])


def truth(text: str) -> bool:
    return text != "0" and text.lower() != "false"


def _int64(request: Request, name: str) -> int:
    values = request.query.get(name)
    return parse_int64(values[0]) if values else 0


def parse_int64(text: str) -> int:
    """Raises BadRequest with what Go's strconv.ParseInt says."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdecimal():
        raise BadRequest(f"strconv.ParseInt: parsing {fields.quote(text[:64])}: invalid syntax")
    if len(digits) > 64 or not -MAX_INT64 - 1 <= int(text) <= MAX_INT64:
        raise BadRequest(f"strconv.ParseInt: parsing {fields.quote(text[:64])}: value out of range")
    return int(text)


def _list_causes(options: ListOptions) -> list[Cause]:
    causes = []
    match = options.match
    if match:
        if not options.version:
            causes.append(
                _forbid(MATCH, f"{MATCH} is forbidden unless resourceVersion is provided")
            )
        if options.token:
            causes.append(_forbid(MATCH, f"{MATCH} is forbidden when continue is provided"))
        if match not in (EXACT, NOT_OLDER):
            causes.append(fields.not_supported(MATCH, match, (EXACT, NOT_OLDER, "")))
        if match == EXACT and options.version == "0":
            causes.append(_forbid(MATCH, f'{MATCH} "exact" is forbidden for resourceVersion "0"'))
    if options.initial is not None:
        causes.append(_forbid("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _watch_causes(options: ListOptions) -> list[Cause]:
    """KEP-3157: initial events need to be told how new they must be."""
    causes = []
    match = options.match
    if options.initial is not None and match != NOT_OLDER:
        causes.append(_forbid(MATCH, f"sendInitialEvents requires setting {MATCH} to {NOT_OLDER}"))
    if match:
        if options.initial is None:
            why = f"{MATCH} is forbidden for watch unless sendInitialEvents is provided"
            causes.append(_forbid(MATCH, why))
        if match != NOT_OLDER:
            causes.append(fields.not_supported(MATCH, match, (NOT_OLDER,)))
        if options.token:
            causes.append(_forbid(MATCH, f"{MATCH} is forbidden when continue is provided"))
    return causes


_forbid = fields.forbidden


def parse_version(text: str) -> int:
    """A resourceVersion as a revision; 0 for "" and "0". Raises BadRequest."""
    if not text:
        return 0
    why = ""
    if not text.isascii() or not text.isdecimal():
        why = "invalid syntax"
    elif len(text) > 64 or int(text) > MAX_UINT64:
        why = "value out of range"
    if why:
        shown = fields.quote(text[:64])
        detail = f"strconv.ParseUint: parsing {shown}: {why}"
        cause = fields.invalid("resourceVersion", text[:64], detail)
        raise BadRequest(f"invalid resource version: {cause}")
    return int(text)


def check_not_ahead(server: Server, text: str) -> int:
    """The revision of a resourceVersion that exists already. One newer than the store's is a
    time-out upstream, after waiting for it in vain; this store is never behind."""
    version = parse_version(text)
    if version > server.store.revision:
        raise too_large(version, server.store.revision)
    return version


def too_large(version: int, current: int) -> StatusError:
    """Clients know this error by its cause, and ask again without the version."""
    cause = errors.Cause("", "Too large resource version", "ResourceVersionTooLarge")
    return errors.Timeout(
        f"Timeout: Too large resource version: {version}, current: {current}",
        errors.Details(causes=(cause,), retry_after_s=1),
    )


def make_token(revision: int, last_key: str, prefix: str) -> str:
    """A continue token as upstream makes them: it is opaque, but ours survive a migration."""
    start = last_key.removeprefix(prefix) + "\0"
    raw = dumps({"v": TOKEN_VERSION, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_token(token: str, prefix: str) -> tuple[int, str]:
    """(revision, key the page begins behind) of a token. Revision 0 is now: upstream's -1, which
    the token of an expired list carries. Raises BadRequest."""
    if strange := NO_TOKEN.search(token):
        raise _bad_token(f"continue key is not valid: {ILLEGAL} {strange.start()}")
    if len(token) % 4 == 1:
        raise _bad_token(f"continue key is not valid: {ILLEGAL} {len(token) - 1}")
    try:
        raw = json_wire.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError as error:
        raise _bad_token(f"continue key is not valid: {error}") from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        kind = json_kind(raw)
        why = f"json: cannot unmarshal {kind} into Go value of type storage.continueToken"
        raise _bad_token(f"continue key is not valid: {why}")
    version, revision, start = raw.get("v", ""), raw.get("rv", 0), raw.get("start", "")
    if version != TOKEN_VERSION:
        raise _bad_token(
            f"continue key is not valid: server does not recognize this encoded version {version}"
        )
    if type(revision) is not int or revision == 0:
        raise _bad_token(
            "continue key is not valid: incorrect encoded start resourceVersion "
            f"(version {TOKEN_VERSION})"
        )
    if type(start) is not str or not start:
        raise _bad_token(
            f"continue key is not valid: encoded start key empty (version {TOKEN_VERSION})"
        )
    rooted = start if start.startswith("/") else f"/{start}"
    if not {"", ".", ".."}.isdisjoint(rooted[1:].split("/")):
        # A token made by a client must not reach outside the collection it was given for.
        raise _bad_token(f"continue key is not valid: {start}")
    return max(revision, 0), prefix + rooted[1:].removesuffix("\0")


def _bad_token(why: str) -> BadRequest:
    return BadRequest(f"invalid continue token: {why}")


def revision_of(server: Server, options: ListOptions, prefix: str) -> tuple[int, str]:
    """(revision a list is of, storage key it begins behind); revision 0 is now."""
    version = options.version
    if options.token:
        revision, after = read_token(options.token, prefix)
        if version and version != "0":
            raise BadRequest("specifying resource version is not allowed when using continue")
        if revision > server.store.revision:
            raise too_large(revision, server.store.revision)
        return revision, after
    if not version or version == "0":
        return 0, ""
    revision = check_not_ahead(server, version)
    exact = options.match == EXACT or (options.limit > 0 and not options.match)
    return (revision if exact else 0), ""
