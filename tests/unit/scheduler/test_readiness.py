"""When devices that have to be made ready are given up."""

from __future__ import annotations

from typing import Any

from sampan.scheduler.readiness import failure_of, is_given_up, is_ready

TIMEOUT_S = 600.0

AT = {"driver": "d", "pool": "p", "device": "x"}
SINCE_S = 1_700_000_000.0


def claim(**conditions: str) -> Any:
    result = {**AT, "bindingConditions": ["up"], "bindingFailureConditions": ["down"]}
    listed = [{"type": key, "status": value} for key, value in conditions.items()]
    allocation = {
        "devices": {"results": [result, {**AT, "device": "plain"}]},
        "allocationTimestamp": "2023-11-14T22:13:20Z",
    }
    status = {"allocation": allocation, "devices": [{**AT, "conditions": listed}]}
    return {"metadata": {"name": "c"}, "status": status}


def test_a_device_is_waited_for_until_it_fails_or_takes_too_long() -> None:
    assert not is_ready(claim())
    assert not is_given_up(claim(), SINCE_S + TIMEOUT_S, TIMEOUT_S)
    assert is_given_up(claim(), SINCE_S + TIMEOUT_S + 1, TIMEOUT_S)
    assert is_ready(claim(up="True"))
    assert not is_given_up(claim(up="True"), SINCE_S + 10 * TIMEOUT_S, TIMEOUT_S)
    assert not is_ready(claim(up="False"))
    failed = claim(down="True")
    assert is_given_up(failed, SINCE_S, TIMEOUT_S)
    assert failure_of(failed) == 'claim c binding failed: reason=, message=""'
    assert not is_given_up({"status": {"allocation": {}}}, SINCE_S, TIMEOUT_S)
