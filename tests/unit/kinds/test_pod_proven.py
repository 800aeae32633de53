"""A spec is checked once; what differs in anything, or has a fault, is checked each time."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.kinds.core import pod as kind
from sampan.api.kinds.core.podspec import proven, validate
from sampan.api.resources import resource

POD = resource("pods").rules


def made(name: str = "p", **spec: Any) -> dict[str, Any]:
    obj: dict[str, Any] = {"metadata": {"name": name, "namespace": "n"}, "spec": spec}
    POD.default(obj)
    return obj


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pods whose spec was looked at."""
    seen: list[str] = []
    check = validate.check_spec

    def spy(*args: Any, pod_name: str, **more: Any) -> None:
        seen.append(pod_name)
        check(*args, pod_name=pod_name, **more)

    monkeypatch.setattr(kind, "check_spec", spy)
    monkeypatch.setattr(kind, "RIGHT", proven.Proven())
    return seen


def shape(image: str = "web:1", **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": image}], **more}


def test_pods_of_one_shape_are_looked_at_once(checks: list[str]) -> None:
    for name in ("a", "b", "c"):
        assert POD.validate(made(name, **shape()), None) == []
    assert POD.validate(made("d", **shape("web:2")), None) == []
    assert checks == ["a", "d"]


def test_faults_are_said_to_everybody(checks: list[str]) -> None:
    for name in ("a", "b"):
        causes = POD.validate(made(name, **shape(restartPolicy="Never again")), None)
        assert [cause.path for cause in causes] == ["spec.restartPolicy"]
    assert checks == ["a", "b"]


def test_names_count_where_claims_are_made_of_them(checks: list[str]) -> None:
    claim = {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}
    }
    volume = {"name": "v" * 63, "ephemeral": {"volumeClaimTemplate": claim}}
    assert POD.validate(made("short", **shape(volumes=[volume])), None) == []
    assert POD.validate(made("n" * 200, **shape(volumes=[volume])), None)
    assert checks == ["short", "n" * 200]


def test_warnings_are_said_to_everybody() -> None:
    spec = shape(nodeSelector={"beta.kubernetes.io/os": "linux"})
    first, second = (POD.warnings(made(name, **spec), None) for name in ("a", "b"))
    assert first
    assert first == second


def test_no_more_than_its_bound_is_kept() -> None:
    specs = proven.Proven()
    digests = [number.to_bytes(16, "big") for number in range(1, proven.SPECS + 2)]
    for digest in digests:
        specs.add(digest)
    assert digests[0] not in specs
    assert digests[1] in specs
    specs.add(b"")
    assert b"" not in specs
