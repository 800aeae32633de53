"""YAML in, as sigs.k8s.io/yaml reads it: the JSON value a YAML 1.1 document stands for.

The document is read event by event without recursion, aliases are copied under a bound, and a
body that is JSON already is decoded as JSON. Timestamps stay strings, mapping keys become strings,
`yes`, `on`, `y` and their kin are booleans.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

import yaml

from . import json as wire_json
from .json import MAX_DEPTH

try:
    from yaml import CBaseLoader as _Loader
    from yaml import CSafeDumper as _BaseDumper
except ImportError:  # PyYAML built without libyaml: slower, the same result
    from yaml import BaseLoader as _Loader  # type: ignore[assignment]
    from yaml import SafeDumper as _BaseDumper  # type: ignore[assignment]

MAX_ALIASED = 100_000
"""Values that aliases may add to a document; more is an explosion (CVE-2019-11253)."""

MAX_VALUES = 300_000
"""Keys, scalars, lists and maps of a document: a second of reading. The largest body (3 MiB) would
need values of less than ten bytes each to have more."""

MAX_LINE = 1 << 30
"""Lines are never folded: folded text is hard to read back by eye and by grep."""

Value = Any


class _Dumper(_BaseDumper):
    """Aliases would surprise readers of a dump: shared values are written out."""

    def ignore_aliases(self, data: Value) -> bool:
        return True


def _string(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Quote what would read back as another type here or in Go (y, n, 1e3, 0o7)."""
    style = None
    try:
        if not isinstance(resolve(text), str):
            style = '"'
    except YAMLError:
        style = '"'
    if "\n" in text:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)


class YAMLError(ValueError):
    """The text is no YAML; the message begins with "yaml: " as upstream's."""


def loads(body: bytes | str, duplicates: list[str] | None = None) -> Value:
    """The JSON value of the first document. Raises YAMLError.

    Keys that occur twice in a mapping (the last one counts) are added to `duplicates` as text:
    `line 3: key "a" already set in map`.
    """
    data = body.encode() if isinstance(body, str) else body
    if data.lstrip()[:1] == b"{":
        try:
            value = wire_json.loads(data)
        except wire_json.JSONError:
            pass  # flow YAML
        else:
            if duplicates is not None:
                twice = wire_json.duplicates(data, value)
                duplicates.extend(f'key "{path}" already set in map' for path in twice)
            return value
    try:
        return _Builder([] if duplicates is None else duplicates).build(data)
    except yaml.MarkedYAMLError as error:
        raise YAMLError(_explain(error)) from None
    except yaml.YAMLError as error:
        raise YAMLError(f"yaml: {error}") from None


def dumps(value: Value) -> bytes:
    """Block YAML of a JSON value; strings that YAML 1.1 would read otherwise are quoted."""
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=True,
        width=MAX_LINE, encoding="utf-8",
    )  # fmt: skip
    return bytes(text)


def _explain(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark is not None else 0
    line += isinstance(error, yaml.scanner.ScannerError)
    where = f"line {line}: " if line else ""
    return (
        f"yaml: {where}{error.problem or error.context or 'unknown problem parsing YAML content'}"
    )


class _Open:
    """A collection being read. `key` is None between pairs of a mapping."""

    __slots__ = ("anchor", "is_map", "items", "key", "line", "merges", "pairs")

    def __init__(self, is_map: bool, anchor: str | None) -> None:
        self.is_map = is_map
        self.anchor = anchor
        self.pairs: dict[str, Value] = {}
        self.items: list[Value] = []
        self.merges: list[Value] = []
        self.key: str | None = None
        self.line = 0


_MERGE = "\0<<"
"""The key of a pair that merges; no document can contain it."""


class _Builder:
    def __init__(self, duplicates: list[str]) -> None:
        self.duplicates = duplicates
        self.anchors: dict[str, Value] = {}
        self.aliased = 0
        self.count = 0
        self.open: list[_Open] = []
        self.result: Value = None

    def build(self, data: bytes) -> Value:
        for event in yaml.parse(data, Loader=_Loader):
            if isinstance(event, yaml.ScalarEvent):
                self.scalar(event)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self.start(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self.end(event)
            elif isinstance(event, yaml.AliasEvent):
                self.alias(event)
            elif isinstance(event, yaml.DocumentEndEvent):
                break
        return self.result

    def scalar(self, event: yaml.ScalarEvent) -> None:
        top = self.open[-1] if self.open else None
        plain = event.implicit[0] and not event.style  # None, or empty from libyaml
        value: Value
        if top is not None and top.is_map and top.key is None and plain and event.value == "<<":
            value = _MERGE
        elif plain:
            value = resolve(event.value)
        else:
            value = _tagged(event.tag, event.value)
        if event.anchor:
            self.anchors[event.anchor] = value
        self.put(value, event)

    def start(self, event: yaml.CollectionStartEvent) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise YAMLError("yaml: exceeded max depth")
        self.open.append(_Open(isinstance(event, yaml.MappingStartEvent), event.anchor))

    def end(self, event: yaml.Event) -> None:
        done = self.open.pop()
        value: Value = done.items
        if done.is_map:
            value = done.pairs
            # Into the one map: a new one for each would make a long list of merges cost its square.
            for merged in done.merges:
                for name, item in merged.items():
                    value.setdefault(name, item)
        if done.anchor:
            self.anchors[done.anchor] = value
        self.put(value, event)

    def alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self.anchors:
            inside = any(item.anchor == event.anchor for item in self.open)
            what = "value contains itself" if inside else "referenced but not defined"
            raise YAMLError(f"yaml: unknown anchor '{event.anchor}' {what}")
        self.put(self.copy(self.anchors[event.anchor]), event)

    def copy(self, value: Value) -> Value:
        """Each use of an alias gets its own value, since whoever decodes may change it."""
        self.aliased += 1
        if self.aliased > MAX_ALIASED:
            raise YAMLError("yaml: document contains excessive aliasing")
        if isinstance(value, dict):
            return {name: self.copy(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.copy(item) for item in value]
        return value

    def put(self, value: Value, event: yaml.Event) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise YAMLError("yaml: document contains too many values")
        if not self.open:
            self.result = value
            return
        top = self.open[-1]
        if not top.is_map:
            top.items.append(value)
        elif top.key is None:
            top.key = _key(value)
            top.line = event.start_mark.line + 1 if event.start_mark else 0
        else:
            name, top.key = top.key, None
            if name == _MERGE:
                top.merges.extend(_mergeable(value))
                return
            if name in top.pairs:
                self.duplicates.append(f'line {top.line}: key "{name}" already set in map')
            top.pairs[name] = value


def _mergeable(value: Value) -> list[Value]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in values):
        raise YAMLError("yaml: map merge requires map or sequence of maps as the value")
    return values


def _key(value: Value) -> str:
    """A mapping key as JSON has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0")
    if value is None:
        return "null"
    raise YAMLError("yaml: invalid map key: a mapping or sequence")


_BOOLS = {
    word: truth
    for truth, words in ((True, "y yes true on"), (False, "n no false off"))
    for base in words.split()
    for word in (base, base.capitalize(), base.upper())
}
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_INT = re.compile(r"[-+]?(?:0b[01]+|0o[0-7]+|0[0-7]*|0x[0-9a-fA-F]+|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL_FLOATS = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
MAX_DIGITS = 400
"""Longer runs of digits stay strings; converting them costs time that grows with the square."""


def resolve(text: str) -> Value:
    """What a plain scalar means in YAML 1.1 as goyaml reads it (no base 60, no timestamps)."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    first = text[0]
    if first not in "0123456789+-." or len(text) > MAX_DIGITS:
        return text
    if _SPECIAL_FLOATS.fullmatch(text):
        raise YAMLError(f"json: unsupported value: {text}")
    digits = text.replace("_", "") if first != "." else text
    if _INT.fullmatch(digits):
        return _integer(digits, text)
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        if math.isinf(number):
            return text
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return text


def _integer(digits: str, text: str) -> int | float | str:
    """The number; larger ones are floats, and what no float holds stays text."""
    sign = -1 if digits[0] == "-" else 1
    body = digits.lstrip("+-")
    if len(body) > 1 and body[0] == "0" and body[1] in "01234567":
        number = sign * int(body, 8)
    else:
        number = sign * int(body, 0)
    if -(2**63) <= number < 2**64:
        return number
    try:
        return float(number)
    except OverflowError:
        return text


def _tagged(tag: str | None, text: str) -> Value:
    if tag == "tag:yaml.org,2002:binary":
        try:
            return base64.b64decode(text).decode("utf-8", "replace")
        except binascii.Error:
            raise YAMLError("yaml: !!binary value contains invalid base64 data") from None
    if tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool"):
        return resolve(text)
    if tag == "tag:yaml.org,2002:null":
        return None
    return text
