"""Named formats: `format.dns1123Label().validate(text)` (library format.go)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ...names import (
    label_1035_problems,
    label_key_problems,
    label_problems,
    label_value_problems,
    subdomain_problems,
)
from ..errors import EvaluationError
from ..functions import Functions, function, method, size_of, table, tenth
from ..times import parse_timestamp
from ..types import STRING, Type, list_of, optional_of
from ..values import NONE, Opaque, Optional
from .network import _url

FORMAT = Type("kubernetes.NamedFormat")
PATTERN_SIZE = 60
"""About the length of the longest pattern behind a format; what a check is charged by."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I)

Check = Callable[[str], Sequence[str]]


class Format(Opaque):
    """A named check of texts."""

    __slots__ = ("check", "name")
    type_name = FORMAT.name

    def __init__(self, name: str, check: Check) -> None:
        self.name, self.check = name, check

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def _prefix(check: Check, text: str) -> Sequence[str]:
    """A prefix of names may end with a dash."""
    return check(f"{text[:-1]}a" if text.endswith("-") else text)


def _uri(text: str) -> list[str]:
    try:
        _url(text)
    except EvaluationError as error:
        return [str(error).partition("string: ")[2]]
    return []


def _uuid(text: str) -> list[str]:
    return [] if _UUID.fullmatch(text) else ["does not match the UUID format"]


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _moment(suffix: str, why: str, text: str) -> list[str]:
    try:
        parse_timestamp(text + suffix)
    except EvaluationError:
        return [why]
    return []


CHECKS: Mapping[str, Check] = {
    "dns1123Label": label_problems,
    "dns1123Subdomain": subdomain_problems,
    "dns1035Label": label_1035_problems,
    "qualifiedName": label_key_problems,
    "dns1123LabelPrefix": partial(_prefix, label_problems),
    "dns1123SubdomainPrefix": partial(_prefix, subdomain_problems),
    "dns1035LabelPrefix": partial(_prefix, label_1035_problems),
    "labelValue": label_value_problems,
    "uri": _uri,
    "uuid": _uuid,
    "byte": _byte,
    "date": partial(_moment, "T00:00:00Z", "invalid date"),
    "datetime": partial(_moment, "", "invalid datetime"),
}
FORMATS = {name: Format(name, check) for name, check in CHECKS.items()}


def _named(name: str) -> Optional:
    found = FORMATS.get(name)
    return NONE if found is None else Optional(found)


def _validate(form: Format, text: str) -> Optional:
    problems = form.check(text)
    return Optional(list(problems)) if problems else NONE


def _cost(args: Sequence[Any], result: Any) -> int:
    return 1 + tenth(size_of(args[1])) * (PATTERN_SIZE // 4)


def functions() -> Functions:
    """The declarations."""
    rows = [
        (f"format.{name}", function((), FORMAT, lambda found=found: found))
        for name, found in FORMATS.items()
    ]
    return table(
        *rows,
        ("format.named", function((STRING,), optional_of(FORMAT), _named)),
        ("validate", method((FORMAT, STRING), optional_of(list_of(STRING)), _validate, _cost)),
    )
