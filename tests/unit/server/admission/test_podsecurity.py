"""The Pod Security Standards: what violates which level as of which version."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.server.admission.podsecurity.checks import violations
from sampan.server.admission.podsecurity.configuration import parse_configuration
from sampan.server.admission.podsecurity.levels import (
    BASELINE,
    LATEST,
    RESTRICTED,
    Choice,
    Standard,
    choice_of,
)

SAFE: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def found(level: str, spec: dict[str, Any], version: int = LATEST, **meta: Any) -> list[str]:
    return [str(item) for item in violations(Standard(level, version), meta, spec)]


def container(name: str = "c", **context: Any) -> dict[str, Any]:
    return {"name": name, "securityContext": context}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"containers": list(containers), **spec}


def test_an_ordinary_pod_is_baseline_and_not_restricted() -> None:
    plain = pod({"name": "c"})
    assert found(BASELINE, plain) == []
    assert found(RESTRICTED, plain) == [
        'allowPrivilegeEscalation != false (container "c" must set'
        " securityContext.allowPrivilegeEscalation=false)",
        'unrestricted capabilities (container "c" must set'
        ' securityContext.capabilities.drop=["ALL"])',
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)',
        'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to'
        ' "RuntimeDefault" or "Localhost")',
    ]
    assert found(RESTRICTED, pod(container(**SAFE))) == []


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (pod(hostNetwork=True, hostPID=True), "host namespaces (hostNetwork=true, hostPID=true)"),
        (
            pod(container("a", privileged=True), container("b", privileged=True)),
            'privileged (containers "a", "b" must not set securityContext.privileged=true)',
        ),
        (
            pod(container(capabilities={"add": ["SYS_ADMIN", "CHOWN", "BPF"]})),
            'non-default capabilities (container "c" must not include "BPF", "SYS_ADMIN" in'
            " securityContext.capabilities.add)",
        ),
        (
            pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
            'hostPath volumes (volume "v")',
        ),
        (
            pod({"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}]}),
            'hostPort (container "c" uses hostPorts 443, 80)',
        ),
        (
            pod({"name": "c", "livenessProbe": {"httpGet": {"host": "1.2.3.4"}}}),
            'probe or lifecycle host (container "c" uses probe or lifecycle host "1.2.3.4")',
        ),
        (
            pod(securityContext={"appArmorProfile": {"type": "Unconfined"}}),
            'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
        ),
        (
            pod(
                container(seLinuxOptions={"type": "x", "user": "u"}),
                securityContext={"seLinuxOptions": {"role": "r"}},
            ),
            'seLinuxOptions (pod and container "c" set forbidden securityContext.seLinuxOptions:'
            ' type "x"; user may not be set; role may not be set)',
        ),
        (
            pod(container(procMount="Unmasked")),
            'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            pod(securityContext={"seccompProfile": {"type": "Unconfined"}}),
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            pod(securityContext={"sysctls": [{"name": "a"}, {"name": "net.ipv4.tcp_rmem"}]}),
            "forbidden sysctls (a)",
        ),
        (
            pod(container(windowsOptions={"hostProcess": True})),
            'hostProcess (container "c" must not set'
            " securityContext.windowsOptions.hostProcess=true)",
        ),
    ],
)
def test_baseline(spec: dict[str, Any], text: str) -> None:
    assert found(BASELINE, spec) == [text]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            pod(container(**{**SAFE, "runAsUser": 0}), securityContext={"runAsUser": 0}),
            'runAsUser=0 (pod and container "c" must not set runAsUser=0)',
        ),
        (
            pod(container(**SAFE), volumes=[{"name": "v", "hostPath": {}}, {"name": "n", "nfs": {}},
                                            {"name": "s", "secret": {}}]),
            'restricted volume types (volumes "v", "n" use restricted volume types "hostPath",'
            ' "nfs")',
        ),
        (
            pod(container(**{**SAFE, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}})),
            'unrestricted capabilities (container "c" must not include "CHOWN" in'
            " securityContext.capabilities.add)",
        ),
        (
            pod(container(**{**SAFE, "runAsNonRoot": False})),
            'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)',
        ),
    ],
)  # fmt: skip
def test_restricted(spec: dict[str, Any], text: str) -> None:
    assert found(RESTRICTED, spec) == [text]


def test_versions_pin_what_is_checked() -> None:
    tuned = pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]})
    assert found(BASELINE, tuned, 31) == ["forbidden sysctls (net.ipv4.tcp_rmem)"]
    assert found(BASELINE, tuned, 32) == []
    plain = pod({"name": "c"})
    assert len(found(RESTRICTED, plain, 0)) == 1
    assert len(found(RESTRICTED, plain, 8)) == 2
    assert len(found(RESTRICTED, plain, 22)) == 4
    # A version that is not known yet is the newest one.
    assert found(RESTRICTED, plain, 999) == found(RESTRICTED, plain)
    unmasked = pod(container(procMount="Unmasked"), hostUsers=False)
    assert found(BASELINE, unmasked) == []
    assert found(BASELINE, unmasked, 34) != []


def test_windows_pods_need_not_set_what_windows_has_not() -> None:
    spec = pod(container(runAsNonRoot=True), os={"name": "windows"})
    assert found(RESTRICTED, spec) == []
    assert len(found(RESTRICTED, spec, 24)) == 3


def test_labels_choose_and_wrong_ones_fail_safely() -> None:
    prefix = "pod-security.kubernetes.io/"
    labels = {f"{prefix}enforce": "baseline", f"{prefix}enforce-version": "v1.25"}
    choice, causes = choice_of(labels, Choice())
    assert (str(choice.enforce), str(choice.warn), causes) == (
        "baseline:v1.25", "privileged:latest", []
    )  # fmt: skip
    labels = {f"{prefix}enforce": "x", f"{prefix}warn": "y", f"{prefix}audit-version": "1.2"}
    choice, causes = choice_of(labels, Choice())
    assert (choice.enforce.level, choice.warn.level) == ("restricted", "privileged")
    assert [str(cause) for cause in causes] == [
        'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "x": must be one of'
        " privileged, baseline, restricted",
        'metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: "1.2": must be'
        ' "latest" or "v1.x"',
        'metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "y": must be one of'
        " privileged, baseline, restricted",
    ]


def test_a_wrong_configuration_is_refused() -> None:
    kind = {"kind": "PodSecurityConfiguration"}
    good = parse_configuration({**kind, "defaults": {"enforce": "baseline"},
                                "exemptions": {"namespaces": ["kube-system"]}})  # fmt: skip
    assert good.default.enforce.level == "baseline"
    assert good.exemption("kube-system", "") == "namespace"
    with pytest.raises(ValueError, match="defaults"):
        parse_configuration({**kind, "defaults": {"warn": "tight"}})
