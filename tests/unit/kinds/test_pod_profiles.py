"""windowsOptions and the annotations of AppArmor: what is refused, and what becomes a field."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.resources import resource

POD = resource("pods").rules
KEY = "container.apparmor.security.beta.kubernetes.io/c"
DEPRECATED = f'metadata.annotations[{KEY}]: deprecated since v1.30; use the "appArmorProfile" ' + (
    "field instead"
)
OPTIONS = "spec.containers[0].securityContext.windowsOptions"


def made(context: Any = None, annotations: Any = None, **spec: Any) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": "i"}
    if context is not None:
        container["securityContext"] = context
    metadata = {"name": "p", "namespace": "n", "annotations": annotations or {}}
    obj = {"metadata": metadata, "spec": {"containers": [container], **spec}}
    POD.default(obj)
    return obj


def errors(pod: dict[str, Any]) -> list[str]:
    return [str(cause) for cause in POD.validate(pod, None)]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", " cannot be an empty string"),
        ("a\tb", " cannot contain control characters"),
        ("a\\b\\c", " cannot contain more than one backslash"),
        ("d" * 256 + "\\u", "'s Domain length must be under 256 characters"),
        (".d\\u", "'s Domain doesn't match the NetBios nor the DNS format"),
        ("d\\", "'s User cannot be empty"),
        ("u" * 105, "'s User length must not be longer than 104 characters"),
        (". .", "'s User cannot contain only periods or spaces"),
        ("u@x", "'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"),
        ("NT AUTHORITY\\Local service", ""),
        ("a.example.com\\u", ""),
    ],
)
def test_names_of_windows_accounts(name: str, why: str) -> None:
    found = POD.validate(made({"windowsOptions": {"runAsUserName": name}}), None)
    details = [str(cause).partition(": runAsUserName")[2] for cause in found]
    if len(name) > 255:
        details = details[:1]
    assert details == ([why] if why else [])
    assert {cause.path for cause in found} <= {f"{OPTIONS}.runAsUserName"}


def test_credentials_of_windows_groups() -> None:
    options = {"gmsaCredentialSpecName": "Big", "gmsaCredentialSpec": "x" * 65_537}
    first, second = errors(made({"windowsOptions": options}))
    assert first.startswith(f'{OPTIONS}.gmsaCredentialSpecName: Invalid value: "Big": a lowercase')
    assert second.endswith("gmsaCredentialSpec size must be under 64 KiB")
    own = made(securityContext={"windowsOptions": {"gmsaCredentialSpec": ""}})
    assert errors(own) == [
        'spec.securityContext.windowsOptions.gmsaCredentialSpec: Invalid value: "": '
        "gmsaCredentialSpec cannot be an empty string"
    ]


def test_processes_of_the_host_are_all_or_none() -> None:
    on = {"windowsOptions": {"hostProcess": True}}
    other = {"name": "d", "image": "i"}
    plain = made(on, initContainers=[other])
    assert errors(plain) == [
        'spec: Invalid value: "": If pod contains any hostProcess containers then all containers '
        "must be HostProcess containers",
        "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any "
        "hostProcess containers",
    ]
    assert errors(made(securityContext=on, initContainers=[other], hostNetwork=True)) == []
    off = {"windowsOptions": {"hostProcess": False}}
    assert errors(made(off, securityContext=on, hostNetwork=True)) == [
        f"{OPTIONS}.hostProcess: Invalid value: false: pod hostProcess value must be identical if "
        "both are specified, was true"
    ]


LOCAL = {"type": "Localhost", "localhostProfile": "mine"}


@pytest.mark.parametrize(
    ("annotation", "profile", "warned"),
    [
        ("localhost/mine", LOCAL, True),
        ("runtime/default", {"type": "RuntimeDefault"}, True),
        ("unconfined", {"type": "Unconfined"}, True),
        ("localhost/ padded ", None, True),
        ("odd", None, True),
        ("", None, True),
    ],
)
def test_an_annotation_becomes_a_field(annotation: str, profile: Any, warned: bool) -> None:
    pod = made(None, {KEY: annotation})
    assert POD.prepare is not None
    assert list(POD.prepare(pod, None) or ()) == [DEPRECATED] * warned
    (container,) = pod["spec"]["containers"]
    assert (container.get("securityContext") or {}).get("appArmorProfile") == profile


def test_a_field_stands_before_its_annotation() -> None:
    assert POD.prepare is not None
    pod = made({"appArmorProfile": LOCAL, "runAsUser": 1}, {KEY: "unconfined"})
    before = made({"appArmorProfile": LOCAL, "runAsUser": 1}, {KEY: "unconfined"})["spec"]
    assert list(POD.prepare(pod, None) or ()) == []
    assert pod["spec"] == before
    same = made(None, {KEY: "localhost/mine"}, securityContext={"appArmorProfile": LOCAL})
    assert list(POD.prepare(same, None) or ()) == []
    assert "securityContext" not in same["spec"]["containers"][0]
    windows = made(None, {KEY: "unconfined"}, os={"name": "windows"})
    assert list(POD.prepare(windows, None) or ()) == []


def test_updates_of_pods_warn_of_nothing() -> None:
    old = made()
    new = made(nodeSelector={"beta.kubernetes.io/os": "linux"})
    assert POD.warnings(new, None)
    assert POD.warnings(new, old) == []


def test_observed_generations_are_not_lost_by_writers_that_know_none() -> None:
    def item(kind: str, seen: int = 0) -> dict[str, Any]:
        return {"type": kind, "status": "True", **({"observedGeneration": seen} if seen else {})}

    old = {"status": {"observedGeneration": 4, "conditions": [item("A", 3), item("A", 2)]}}
    new: dict[str, Any] = {"status": {"conditions": [item("A"), item("B"), item("A"), item("A")]}}
    POD.prepare_parts["status"](new, old)
    assert new["status"]["observedGeneration"] == 4
    assert new["status"]["conditions"] == [item("A", 3), item("B"), item("A", 2), item("A")]
    told = {"status": {"observedGeneration": 5, "conditions": [item("A", 5)]}}
    POD.prepare_parts["status"](told, old)
    assert told == {"status": {"observedGeneration": 5, "conditions": [item("A", 5)]}}
