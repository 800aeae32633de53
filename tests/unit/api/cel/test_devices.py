"""Selectors of devices: what they see, and what is refused when they are written."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.cel import EvaluationError
from sampan.api.cel.admission import Unfit
from sampan.api.cel.devices import TooCostly, compile_selector, device_value

DEVICE: dict[str, Any] = {
    "attributes": {
        "model": {"string": "a100"},
        "cores": {"int": 8},
        "dra.example.com/driverVersion": {"version": "1.10.0"},
    },
    "capacity": {"memory": {"value": "40Gi"}},
}


def matches(text: str) -> Any:
    value = device_value("gpu.example.com", DEVICE)
    return compile_selector(text).evaluate({"device": value})


@pytest.mark.parametrize(
    "text",
    [
        "device.driver == 'gpu.example.com' && device.attributes['gpu.example.com'].cores > 4",
        "device.capacity['gpu.example.com'].memory.compareTo(quantity('32Gi')) > 0",
        "device.attributes['dra.example.com'].driverVersion.isGreaterThan(semver('1.9.0'))",
        "!has(device.attributes['other.example.com'].cores)",
    ],
)
def test_selectors_match(text: str) -> None:
    assert matches(text) is True


def test_what_a_device_does_not_have_is_named() -> None:
    with pytest.raises(EvaluationError, match="no such key: cores"):
        matches("device.attributes['other.example.com'].cores > 1")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(Unfit, match="must evaluate to bool or the unknown type, not int"):
        compile_selector("1")
    with pytest.raises(Unfit, match="undefined field 'gone'"):
        compile_selector("device.gone == 1")
    loop = "device.attributes.all(a, device.attributes.all(b, a == b || BODY))"
    with pytest.raises(TooCostly):
        compile_selector(loop.replace("BODY", loop.replace("BODY", loop.replace("BODY", "true"))))
