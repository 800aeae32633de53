"""What `--simulate` takes, and what it says of the rest."""

from __future__ import annotations

import pytest

from sampan.api.simulation import Simulation, Span, parse


def test_what_is_said_and_what_is_not() -> None:
    found = parse("nodes=3, start=200ms-1s,stop=0.5,fail=1%,lost=0.5,zones=2,lease=1m,cpu=500m")
    assert found == Simulation(
        nodes=3,
        start=Span(0.2, 1.0),
        stop=Span(0.5, 0.5),
        fail=0.01,
        lost=0.5,
        zones=2,
        lease=60.0,
        cpu="500m",
    )
    assert found.names == ["sim-0", "sim-1", "sim-2"]
    assert parse("") == Simulation()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("500", "use name=value"),
        ("node=5", "'node' is none of nodes"),
        ("nodes=-1", "use a number up to 16384"),
        ("nodes=16385", "use a number up to 16384"),
        ("nodes=٣", "use a number up to 16384"),
        ("start=soon", "use a duration"),
        ("start=99999h", "use a duration"),
        ("start=2s-1s", "the first duration is the shorter one"),
        ("fail=200%", "use a share"),
        ("cpu=much", "cpu=much"),
        ("lease=1s", "use 4s or more"),
        ("name=A b", "use up to 32"),
    ],
)
def test_what_cannot_be_is_told(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)
