"""An evaluation at its limit ends soon: work is bounded by cost, counted in calls of the
interpreter, which do not depend on how busy the machine is."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from sampan.api.cel import Budget, CostExceeded, compile, declared
from sampan.api.cel.types import DYN

VALUES = {
    "numbers": list(range(3000)),
    "names": [f"name-{number}" for number in range(2000)],
    "objects": [{"name": f"n{number}", "v": number} for number in range(500)],
}
COST = 50_000
CALLS = 3 * COST
"""Of Python functions; without the short paths some took six for a unit of cost."""


@pytest.mark.parametrize(
    "expression",
    [
        "numbers.all(a, numbers.all(b, a + b >= 0))",
        "objects.all(x, objects.all(y, has(x.name) && x.v + y.v >= 0))",
        "names.all(x, names.all(y, x.matches('^name-[0-9]+$')))",
        "names.all(x, names.all(y, timestamp('2020-01-01T00:00:00Z').getHours() == 0))",
        "names.all(x, names.all(y, cidr('1.2.3.0/24').containsIP('1.2.3.4')))",
        "names.all(x, names.all(y, x.find('[0-9]+') != ''))",
        "names.all(x, names.all(y, x.nope == 1 || true))",
    ],
)
def test_calls_are_bounded_by_cost(expression: str) -> None:
    program = compile(expression, declared(**dict.fromkeys(VALUES, DYN)))
    calls = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        with pytest.raises(CostExceeded):
            program.evaluate(VALUES, Budget(COST))
    finally:
        sys.setprofile(None)
    assert calls < CALLS
