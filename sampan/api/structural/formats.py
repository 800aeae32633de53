"""String formats that custom resources are checked for (kube-openapi pkg/validation/strfmt)."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from urllib.parse import urlsplit

from sampan.api.names import LABEL, MAX_LABEL, SUBDOMAIN
from sampan.api.times import TimeError, parse_duration_s, parse_time

Test = Callable[[str], bool]

_HEX = r"[0-9a-fA-F]"


def _is_like(pattern: re.Pattern[str], value: str) -> bool:
    return pattern.fullmatch(value) is not None


def _like(pattern: str) -> Test:
    # Fixed patterns of ours, none of which backtracks badly.
    return partial(_is_like, re.compile(pattern))


def _is_uuid(version: str) -> Test:
    plain = _like(rf"{_HEX}{{8}}-?{_HEX}{{4}}-?[{version}]{_HEX}{{3}}-?{_HEX}{{4}}-?{_HEX}{{12}}")
    strict = _like(
        rf"{_HEX}{{8}}-?{_HEX}{{4}}-?[{version}]{_HEX}{{3}}-?[89abAB]{_HEX}{{3}}-?{_HEX}{{12}}"
    )
    return strict if version in ("4", "5") else plain


def _is_uri(value: str) -> bool:
    """Go's url.ParseRequestURI: an absolute URI or an absolute path."""
    if not value or any(letter <= " " or letter == "\x7f" for letter in value):
        return False
    if value.startswith("/"):
        return True
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018
    except ValueError:
        return False
    return bool(parts.scheme)


_EMAIL = _like(r'[^@\s<>()\[\],;:"]+@[^@\s<>()\[\],;:"]+')
_HOSTNAME = _like(r"([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)*"
                  r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.?")  # fmt: skip
# Digits are taken whole, where they begin: a text of digits alone would else cost its square.
_WORDY = re.compile(r"(?<![0-9])([0-9]++)\s*+([A-Za-zµ]+)")
_UNITS = frozenset({"ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"})
_LONG_UNITS = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")
MAX_DIGITS = 18
"""Of a number in a duration: what has no more fits in 64 bits."""


def _is_duration(value: str) -> bool:
    """Go's, or one in words: "3 days". Upstream looks for one unit that it knows."""
    try:
        parse_duration_s(value)
    except TimeError:
        found = [(number, unit.lower()) for number, unit in _WORDY.findall(value)]
        return all(len(number.lstrip("0")) <= MAX_DIGITS for number, _ in found) and any(
            unit in _UNITS or unit.startswith(_LONG_UNITS) for _, unit in found
        )
    return True


def _is_address(value: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(value).version == version
    except ValueError:
        return False


def _is_cidr(value: str) -> bool:
    if "/" not in value:
        return False
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return value.rpartition("/")[2].isdecimal()


def _is_date(value: str) -> bool:
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return len(value) == 10


def _is_date_time(value: str) -> bool:
    """RFC 3339, with upstream's leniency for a missing zone."""
    try:
        parse_time(value)
    except TimeError:
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
        return "T" in value.upper() and len(value) >= 16
    return True


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_isbn10(value: str) -> bool:
    digits = value.replace("-", "").replace(" ", "")
    if not re.fullmatch(r"\d{9}[\dX]", digits):
        return False
    worth = [10 if digit == "X" else int(digit) for digit in digits]
    return sum((10 - place) * digit for place, digit in enumerate(worth)) % 11 == 0


def _is_isbn13(value: str) -> bool:
    digits = value.replace("-", "").replace(" ", "")
    if not re.fullmatch(r"\d{13}", digits):
        return False
    return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0


def _is_card(value: str) -> bool:
    """Luhn's sum."""
    digits = [int(letter) for letter in value if letter.isdecimal()]
    if not 13 <= len(digits) <= 19 or re.search(r"[^\d\s-]", value):
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0


_COLOUR = re.compile(r"rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")


def _is_rgb(value: str) -> bool:
    found = _COLOUR.fullmatch(value)
    return found is not None and all(int(part) < 256 for part in found.groups())


def _is_short_name(value: str) -> bool:
    return len(value) <= MAX_LABEL and _is_like(LABEL, value)


def _is_long_name(value: str) -> bool:
    return len(value) <= 253 and _is_like(SUBDOMAIN, value)


def _anything(value: str) -> bool:
    return True


FORMATS: dict[str, Test] = {
    "bsonobjectid": _like(rf"{_HEX}{{24}}"),
    "uri": _is_uri,
    "email": _EMAIL,
    "hostname": lambda value: len(value) <= 255 and _HOSTNAME(value),
    "ipv4": lambda value: _is_address(value, 4),
    "ipv6": lambda value: _is_address(value, 6),
    "cidr": _is_cidr,
    "mac": _like(rf"({_HEX}{{2}}([:-])){{5}}{_HEX}{{2}}|({_HEX}{{4}}\.){{2}}{_HEX}{{4}}"),
    "uuid": _is_uuid("0-9a-fA-F"),
    "uuid3": _is_uuid("3"),
    "uuid4": _is_uuid("4"),
    "uuid5": _is_uuid("5"),
    "isbn": lambda value: _is_isbn10(value) or _is_isbn13(value),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "creditcard": _is_card,
    "ssn": _like(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "hexcolor": _like(rf"#?({_HEX}{{3}}|{_HEX}{{6}})"),
    "rgbcolor": _is_rgb,
    "byte": _is_base64,
    "password": _anything,
    "date": _is_date,
    "duration": _is_duration,
    "datetime": _is_date_time,
    "k8sshortname": _is_short_name,
    "k8slongname": _is_long_name,
}
"""Formats by their names without hyphens, which Go's library does not care for. Those without an
entry are not checked, as upstream strips what it does not know."""


def is_known(name: str) -> bool:
    return name.replace("-", "") in FORMATS


def check_of(name: str) -> Test:
    return FORMATS[name.replace("-", "")]
