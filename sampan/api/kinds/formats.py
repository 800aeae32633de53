"""Rules for strings and numbers that many kinds share, in upstream's words.

Each `check_*` appends field errors to `out` (k8s.io/apimachinery util/validation, and
pkg/apis/core/validation). Names, labels and selectors are in `api.names` and `api.selectors`,
addresses in `addresses`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .. import fields
from ..errors import Cause
from ..names import (
    LABEL,
    MAX_LABEL,
    MAX_SUBDOMAIN,
    SUBDOMAIN,
    label_key_problems,
    label_problems,
    label_value_problems,
    max_length,
    regex_problem,
    subdomain_problems,
)

NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"
BAD_PORT = "must be between 1 and 65535, inclusive"
BAD_ID = "must be between 0 and 2147483647, inclusive"
BAD_ENV = (
    "a valid environment variable name must consist only of printable ASCII characters "
    "other than '='"
)
BAD_FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
DIGITS_64 = 19
"""A number with fewer decimal digits fits in 64 bits. Python's parser refuses thousands of them."""
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of an object's annotations, keys and values together."""
MAX_PORT_NAME = 15
PROTOCOLS = ("SCTP", "TCP", "UDP")

_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_KEY_TEXT = regex_problem(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    "[-._a-zA-Z0-9]+", "key.name", "KEY_NAME", "key-name",
)  # fmt: skip
_HTTP_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_HTTP_PATH_TEXT = regex_problem("Invalid path", _HTTP_PATH.pattern)
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_HEADER_TEXT = regex_problem(
    "a valid HTTP header must consist of alphanumeric characters or '-'",
    "[-A-Za-z0-9]+", "X-Header-Name",
)  # fmt: skip
_PORT_NAME = re.compile(r"(?=[^a-z]*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_PORT_CHARS = re.compile(r"[-a-z0-9]+")
_PERCENT = re.compile(r"[0-9]+%")
_ENV = re.compile(r"[ -<>-~]+")


def check_label(value: str, path: str, out: list[Cause]) -> None:
    if len(value) > MAX_LABEL or not LABEL.fullmatch(value):
        out += [fields.invalid(path, value, why) for why in label_problems(value)]


def check_subdomain(value: str, path: str, out: list[Cause]) -> None:
    if len(value) > MAX_SUBDOMAIN or not SUBDOMAIN.fullmatch(value):
        out += [fields.invalid(path, value, why) for why in subdomain_problems(value)]


def check_qualified(value: str, path: str, out: list[Cause]) -> None:
    """A qualified name: [subdomain/]name, as label keys are."""
    problems = label_key_problems(value)
    if problems:
        out += [fields.invalid(path, value, why) for why in problems]


def check_domain_path(value: str, path: str, out: list[Cause]) -> None:
    """A path below a domain, as controllers are named (IsDomainPrefixedPath)."""
    domain, slash, rest = value.partition("/")
    if not value:
        out.append(fields.required(path))
    elif not slash or not domain or not rest:
        why = 'must be a domain-prefixed path (such as "acme.io/foo")'
        out.append(fields.invalid(path, value, why))
    else:
        out += [fields.invalid(path, domain, why) for why in subdomain_problems(domain)]
        if not _HTTP_PATH.fullmatch(rest):
            out.append(fields.invalid(path, rest, _HTTP_PATH_TEXT))


def check_labels(labels: Mapping[str, str] | None, path: str, out: list[Cause]) -> None:
    for key, value in (labels or {}).items():
        for why in label_key_problems(key):
            out.append(fields.invalid(path, key, why))
        for why in label_value_problems(value):
            out.append(fields.invalid(path, value, why))


def check_annotations(annotations: Mapping[str, str] | None, path: str, out: list[Cause]) -> None:
    size = 0
    for key, value in (annotations or {}).items():
        size += len(key) + len(value)
        for why in label_key_problems(key.lower()):
            out.append(fields.invalid(path, key, why))
    if size > MAX_ANNOTATIONS:
        out.append(fields.too_long(path, "", MAX_ANNOTATIONS))


def check_port(value: Any, path: str, out: list[Cause]) -> None:
    if not 1 <= value <= 65535:
        out.append(fields.invalid(path, value, BAD_PORT))


def port_name_problems(value: str) -> list[str]:
    """validation.IsValidPortName."""
    if len(value) <= MAX_PORT_NAME and _PORT_NAME.fullmatch(value):
        return []
    problems = [max_length(MAX_PORT_NAME)] if len(value) > MAX_PORT_NAME else []
    if not _PORT_CHARS.fullmatch(value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= char <= "z" for char in value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value and "-" in (value[0], value[-1]):
        problems.append("must not begin or end with a hyphen")
    return problems


def check_port_or_name(value: Any, path: str, out: list[Cause]) -> None:
    """An IntOrString that names a port."""
    if isinstance(value, str):
        out += [fields.invalid(path, value, why) for why in port_name_problems(value)]
    else:
        check_port(value or 0, path, out)


def check_protocol(value: str | None, path: str, out: list[Cause]) -> None:
    if not value:
        out.append(fields.required(path))
    elif value not in PROTOCOLS:
        out.append(fields.not_supported(path, value, PROTOCOLS))


def check_nonnegative(value: Any, path: str, out: list[Cause]) -> None:
    if value is not None and value < 0:
        out.append(fields.invalid(path, value, NEGATIVE))


def check_id(value: Any, path: str, out: list[Cause]) -> None:
    """A user or group id; None is fine."""
    if value is not None and not 0 <= value <= MAX_INT32:
        out.append(fields.invalid(path, value, BAD_ID))


def check_config_key(value: str, path: str, out: list[Cause]) -> None:
    """A key of a ConfigMap or Secret."""
    if len(value) > MAX_SUBDOMAIN:
        out.append(fields.invalid(path, value, max_length(MAX_SUBDOMAIN)))
    if not _CONFIG_KEY.fullmatch(value):
        out.append(fields.invalid(path, value, _CONFIG_KEY_TEXT))
    if value in (".", ".."):
        out.append(fields.invalid(path, value, f"must not be '{value}'"))
    elif value.startswith(".."):
        out.append(fields.invalid(path, value, "must not start with '..'"))


def check_env_name(value: str, path: str, out: list[Cause]) -> None:
    if not _ENV.fullmatch(value):
        out.append(fields.invalid(path, value, BAD_ENV))


def check_header(value: str, path: str, out: list[Cause]) -> None:
    if not _HEADER.fullmatch(value):
        out.append(fields.invalid(path, value, _HEADER_TEXT))


def check_no_backsteps(value: str, path: str, out: list[Cause]) -> None:
    if ".." in value and ".." in value.split("/"):
        out.append(fields.invalid(path, value, "must not contain '..'"))


def check_descending(value: str, path: str, out: list[Cause]) -> None:
    """A relative path that stays inside."""
    if value.startswith("/"):
        out.append(fields.invalid(path, value, "must be a relative path"))
    check_no_backsteps(value, path, out)


def check_local_path(value: str, path: str, out: list[Cause]) -> None:
    """As `check_descending`, and its first element may not begin with two dots."""
    check_descending(value, path, out)
    if value.startswith("..") and not value.startswith("../"):
        out.append(fields.invalid(path, value, "must not start with '..'"))


def check_file_mode(value: int | None, path: str, out: list[Cause]) -> None:
    if value is not None and not 0 <= value <= 0o777:
        out.append(fields.invalid(path, value, BAD_FILE_MODE))


def check_supported(value: Any, allowed: tuple[str, ...], path: str, out: list[Cause]) -> None:
    """A word of a closed set; an absent one is required."""
    if value in allowed:
        return
    if not value:
        out.append(fields.required(path))
    else:
        out.append(fields.not_supported(path, value, allowed))


def check_optional(value: Any, allowed: tuple[str, ...], path: str, out: list[Cause]) -> None:
    """A word of a closed set, or nothing."""
    if value is not None and value not in allowed:
        out.append(fields.not_supported(path, value, allowed))


def is_percent(value: Any) -> bool:
    return isinstance(value, str) and _PERCENT.fullmatch(value) is not None


def percent_of(value: Any) -> int | None:
    """The number of a percentage, None for anything else. What fits no 64 bits counts as the most
    that does, as Go's parser has it (and Python's takes no thousands of digits)."""
    if not is_percent(value):
        return None
    digits = value[:-1].lstrip("0")
    return int(digits or "0") if len(digits) < DIGITS_64 else MAX_INT64


def check_count_or_percent(value: Any, path: str, out: list[Cause]) -> None:
    """A non-negative IntOrString whose string is a percentage."""
    if isinstance(value, str):
        if not is_percent(value):
            out.append(
                fields.invalid(
                    path,
                    value,
                    regex_problem(
                        "a valid percent string must be a numeric string followed by an ending "
                        "'%'",
                        "[0-9]+%", "1%", "93%",
                    ),
                )
            )  # fmt: skip
    else:
        check_nonnegative(value, path, out)


def check_not_over_100(value: Any, path: str, out: list[Cause]) -> None:
    if (percent_of(value) or 0) > 100:
        out.append(fields.invalid(path, value, "must not be greater than 100%"))
