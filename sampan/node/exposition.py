"""Prometheus' text format, version 0.0.4: families of values with labels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sampan.wire.exposition import Buckets

Row = tuple[Mapping[str, str], float]
Family = tuple[str, str, str, Iterable[Row]]
"""Name, type, help, and the values with their labels."""


def text_of(families: Iterable[Family], at_ms: int | None = None) -> str:
    """Families without values are left out, as client_golang leaves out vectors without series."""
    lines: list[str] = []
    for family in families:
        lines += lines_of(family, at_ms)
    return "\n".join(lines) + "\n"


def lines_of(family: Family, at_ms: int | None = None) -> Iterator[str]:
    name, kind, text, rows = family
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in rows:
        yield sample(name, labels, value, at_ms)


def sample(name: str, labels: Mapping[str, str], value: float, at_ms: int | None = None) -> str:
    inside = ",".join(f'{key}="{escaped(item)}"' for key, item in sorted(labels.items()))
    shown = f"{value:.9g}" if abs(value) < 1e6 else repr(float(value))
    where = f"{name}{{{inside}}}" if inside else name
    return f"{where} {shown} {at_ms}" if at_ms is not None else f"{where} {shown}"


def histogram_lines(
    name: str, text: str, series: Iterable[tuple[Mapping[str, str], Buckets]]
) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    for labels, found in series:
        for suffix, bound, value in found.rows():
            extra = {"le": bound} if bound else {}
            yield sample(f"{name}{suffix}", {**labels, **extra}, value)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
