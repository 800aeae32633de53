"""Rules for names, label keys and label values, in upstream's words.

Every `*_problems` function gives the list of complaints about one string, empty when it is good;
they are what a field error says after `Invalid value: "x": `.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from .errors import Cause
from .fields import invalid

MAX_LABEL = 63
"""DNS label, label key's name part, label value."""
MAX_SUBDOMAIN = 253
CACHED_NAMES = 4096

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_KEY = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = rf"({_KEY})?"

LABEL = re.compile(_LABEL)
LABEL_1035 = re.compile(_LABEL_1035)
SUBDOMAIN = re.compile(_SUBDOMAIN)
KEY = re.compile(_KEY)
VALUE = re.compile(_VALUE)

EMPTY = "must be non-empty"


def max_length(maximum: int) -> str:
    return f"must be no more than {maximum} bytes"


def regex_problem(text: str, pattern: str, *examples: str) -> str:
    """Upstream's RegexError: what is wrong, examples, and the pattern."""
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


LABEL_TEXT = regex_problem(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character",
    _LABEL, "my-name", "123-abc",
)  # fmt: skip
LABEL_1035_TEXT = regex_problem(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character",
    _LABEL_1035, "my-name", "abc-123",
)  # fmt: skip
SUBDOMAIN_TEXT = regex_problem(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character",
    _SUBDOMAIN, "example.com",
)  # fmt: skip
KEY_TEXT = regex_problem(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character",
    _KEY, "MyName", "my.name", "123-abc",
)  # fmt: skip
VALUE_TEXT = regex_problem(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character",
    _VALUE, "MyValue", "my_value", "12345",
)  # fmt: skip


def label_problems(name: str) -> list[str]:
    """DNS label, RFC 1123."""
    problems = [max_length(MAX_LABEL)] if len(name) > MAX_LABEL else []
    if not LABEL.fullmatch(name):
        dotted = SUBDOMAIN.fullmatch(name)
        problems.append("must not contain dots" if dotted else LABEL_TEXT)
    return problems


def label_1035_problems(name: str) -> list[str]:
    """DNS label, RFC 1035: begins with a letter."""
    problems = [max_length(MAX_LABEL)] if len(name) > MAX_LABEL else []
    if not LABEL_1035.fullmatch(name):
        problems.append(LABEL_1035_TEXT)
    return problems


def subdomain_problems(name: str) -> list[str]:
    """DNS subdomain, RFC 1123."""
    problems = [max_length(MAX_SUBDOMAIN)] if len(name) > MAX_SUBDOMAIN else []
    if not SUBDOMAIN.fullmatch(name):
        problems.append(SUBDOMAIN_TEXT)
    return problems


def path_problems(name: str, *, prefix: bool = False) -> list[str]:
    """A name that only has to fit in a URL path (RBAC)."""
    if not prefix and name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in name]


RULES = {
    "subdomain": subdomain_problems,
    "label": label_problems,
    "label1035": label_1035_problems,
    "path": path_problems,
}


def name_problems(name: str, rule: str, *, prefix: bool = False) -> list[str]:
    """The complaints of a kind's name rule (`Kind.name_rule`). `prefix`: the name is a
    generateName, whose trailing dash will be followed by something."""
    if rule == "path":
        return path_problems(name, prefix=prefix)
    if prefix and len(name) > 1 and name.endswith("-"):
        # Upstream passes over the character before it, too; the name itself is checked anyway.
        name = name[:-2] + "a"
    return RULES[rule](name)


@lru_cache(maxsize=CACHED_NAMES)
def label_key_problems(key: str) -> tuple[str, ...]:
    """A label key, also called a qualified name: [subdomain/]name."""
    prefix, slash, name = key.rpartition("/")
    problems: list[str] = []
    if "/" in prefix:
        return (
            f"a valid label key {KEY_TEXT} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')",
        )
    if slash:
        if not prefix:
            problems.append(f"prefix part {EMPTY}")
        else:
            problems += [f"prefix part {why}" for why in subdomain_problems(prefix)]
    if not name:
        problems.append(f"name part {EMPTY}")
    elif len(name) > MAX_LABEL:
        problems.append(f"name part {max_length(MAX_LABEL)}")
    if not KEY.fullmatch(name):
        problems.append(f"name part {KEY_TEXT}")
    return tuple(problems)


@lru_cache(maxsize=CACHED_NAMES)
def label_value_problems(value: str) -> tuple[str, ...]:
    problems = [max_length(MAX_LABEL)] if len(value) > MAX_LABEL else []
    if not VALUE.fullmatch(value):
        problems.append(VALUE_TEXT)
    return tuple(problems)


def validate_labels(labels: Mapping[str, str], path: str) -> list[Cause]:
    """Field errors of a map of labels."""
    causes = []
    for key, value in labels.items():
        if label_key_problems(key) or label_value_problems(value):
            causes += [invalid(path, key, why) for why in label_key_problems(key)]
            causes += [invalid(path, value, why) for why in label_value_problems(value)]
    return causes
