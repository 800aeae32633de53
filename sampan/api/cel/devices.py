"""Selectors of devices (resource.k8s.io, KEP-4381): `device.driver`, `device.attributes` and
`device.capacity` by domain, checked when written and evaluated when devices are allocated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from .admission import Unfit, fit
from .environment import Environment, kubernetes
from .errors import EvaluationError
from .estimate import estimate
from .library.versions import QUANTITY, to_quantity, to_semver
from .program import Program
from .sizes import Sizes
from .types import BOOL, DYN, STRING, Field, ObjectType, map_of

MAX_LENGTH = 10 * 1024
"""Characters of a selector (CELSelectorExpressionMaxLength)."""
MAX_COST = 1_000_000
"""What a selector may cost at most (CELSelectorExpressionMaxCost)."""
MOST_ATTRIBUTES = 32
"""Attributes and capacities of a device, as the API allows."""
MOST_TEXT = 64

DEVICE = ObjectType(
    "DRADevice",
    {
        "driver": Field(STRING, "driver"),
        "attributes": Field(map_of(STRING, map_of(STRING, DYN)), "attributes"),
        "capacity": Field(map_of(STRING, map_of(STRING, QUANTITY)), "capacity"),
        "allowMultipleAllocations": Field(BOOL, "allowMultipleAllocations"),
    },
)
_VALUES = Sizes(MOST_ATTRIBUTES, element=Sizes(MOST_ATTRIBUTES, element=Sizes(MOST_TEXT)))
_SIZES = Sizes(4, fields={"driver": Sizes(MOST_TEXT), "attributes": _VALUES, "capacity": _VALUES})


class TooCostly(Exception):
    """The selector could cost more than `MAX_COST`."""


@cache
def _environment() -> Environment:
    return kubernetes().extend({"device": DEVICE})


def compile_selector(text: str) -> Program:
    """The program of a selector. Raises Unfit and TooCostly."""
    program = fit(text, _environment(), ())
    if program.type.name not in ("bool", "dyn"):
        raise Unfit(f"must evaluate to bool or the unknown type, not {program.type}")
    if estimate(program, {"device": _SIZES}).most > MAX_COST:
        raise TooCostly
    return program


def device_value(driver: str, device: Mapping[str, Any]) -> dict[str, Any]:
    """A device of a ResourceSlice as selectors see it. A domain that it does not have is empty, so
    that looking for an attribute in it says which is missing. Raises EvaluationError."""
    attributes = _Domains()
    for name, value in (device.get("attributes") or {}).items():
        domain, identifier = _split(name, driver)
        attributes.setdefault(domain, {})[identifier] = _attribute(value)
    capacity = _Domains()
    for name, value in (device.get("capacity") or {}).items():
        domain, identifier = _split(name, driver)
        capacity.setdefault(domain, {})[identifier] = to_quantity(str(value.get("value")))
    return {
        "driver": driver,
        "attributes": attributes,
        "capacity": capacity,
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
    }


class _Domains(dict[str, dict[str, Any]]):
    """Maps by domain; one that is not there is empty."""

    type_name = "map"

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str)

    def __missing__(self, key: str) -> dict[str, Any]:
        return {}


def _split(name: str, driver: str) -> tuple[str, str]:
    """Without a domain of its own, an attribute is in its driver's."""
    domain, slash, identifier = name.partition("/")
    return (domain, identifier) if slash else (driver, name)


def _attribute(value: Mapping[str, Any]) -> Any:
    for kind in ("int", "bool", "string"):
        if value.get(kind) is not None:
            return value[kind]
    if value.get("version") is not None:
        return to_semver(value["version"])
    raise EvaluationError("unsupported attribute value")
