"""`sampan why` of what is neither pod nor workload: worked examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sampan.cli.why.facts import Facts
from sampan.cli.why.finding import findings_of
from sampan.cli.why.gathering import gather, gather_any
from sampan.cli.why.services import near_misses
from sampan.cli.why.showing import tree_of
from sampan.cli.why.strangers import resolve

GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def made(kind: str, spec: Any = None, status: Any = None, meta: Any = None, **more: Any) -> Facts:
    conditions = [
        {"type": name, "status": text.split(" ")[0], "reason": text.split(" ")[1].rstrip(":"),
         "message": text.partition(": ")[2]}
        for name, text in (more.pop("conditions", None) or {}).items()
    ]  # fmt: skip
    metadata = {"name": "web", "namespace": "shop", "uid": "u", **(meta or {})}
    status = {"conditions": conditions, **(status or {})}
    return Facts({"kind": kind, "metadata": metadata, "spec": spec or {}, "status": status}, **more)


def pod(name: str = "web-1", ready: bool = True, **labels: str) -> Any:
    mark = {"type": "Ready", "status": "True" if ready else "False"}
    meta = {"name": name, "namespace": "shop", "labels": labels}
    return {"kind": "Pod", "metadata": meta, "spec": {}, "status": {"conditions": [mark]}}


def hpa(**conditions: str) -> Facts:
    target = {"kind": "Deployment", "name": "api"}
    spec = {"scaleTargetRef": target, "maxReplicas": 4}
    return made("HorizontalPodAutoscaler", spec, {"desiredReplicas": 3}, conditions=conditions)


def budget(status: Any, *pods: Any, others: Any = (), **spec: Any) -> Facts:
    spec = {"selector": {"matchLabels": {"app": "web"}}, **spec}
    around = {"pods": [*pods], "poddisruptionbudgets": [*others]}
    return made("PodDisruptionBudget", spec, status, others=around)


def ingress(spec: Any, **others: Any) -> Facts:
    return made("Ingress", spec, others=others)


def to(port: Any) -> Any:
    path = {"path": "/", "backend": {"service": {"name": "api", "port": port}}}
    rule = {"host": "a.example", "http": {"paths": [path]}}
    return {"ingressClassName": "traefik", "rules": [rule]}


CLASSES: Any = [{"metadata": {"name": "traefik"}}]
SERVICE: Any = {"metadata": {"name": "api"}, "spec": {"ports": [{"port": 80, "name": "http"}]}}
HELD: Any = {"metadata": {"name": "keep", "finalizers": ["example.com/hold"]}}
TWIN: Any = {"metadata": {"name": "twin"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}}
CORDONED: Any = {
    "pods": [pod(app="web")],
    "poddisruptionbudgets": [
        {**TWIN, "metadata": {"name": "twin", "namespace": "shop"}, "status": {}},
    ],
}
NEWER = {"creationTimestamp": "2026-01-02T00:00:00Z", "name": "web-2"}


def said(reason: str, text: str) -> Any:
    return {"reason": reason, "message": text, "type": "Warning"}


EXAMPLES: list[tuple[str, Facts, str, str]] = [
    ("hpa/no-target", hpa(AbleToScale="False FailedGetScale: not found"), "api", "scaleTargetRef"),
    ("hpa/no-request", hpa(ScalingActive="False FailedGetResourceMetric: failed to get cpu "
                           "utilization: missing request for cpu in container c of Pod api-1"),
     "do not request", "resources.requests.cpu of container c in deployment/api"),
    ("hpa/no-metrics", hpa(ScalingActive="False FailedGetResourceMetric: no metrics returned"),
     "no measurements", "sampan why deployment/api"),
    ("hpa/no-metrics-server", hpa(ScalingActive="False FailedGetExternalMetric: unable"),
     "external.metrics.k8s.io", "adapter"),
    ("hpa/disabled", hpa(ScalingActive="False ScalingDisabled: 0"), "by hand", "--replicas=1"),
    ("hpa/at-maximum", hpa(ScalingActive="True ValidMetricFound: ok",
                           ScalingLimited="True TooManyReplicas: more than the maximum"),
     "4 at most", "maxReplicas"),
    ("cronjob/suspended", made("CronJob", {"suspend": True}), "suspended", '"suspend":false'),
    ("cronjob/schedule", made("CronJob", events=[said("UnknownTimeZone", "Mars/Base")]),
     "Mars/Base", "timeZone"),
    ("cronjob/missed", made("CronJob", events=[said("MissSchedule", "too late")]),
     "too late", "startingDeadlineSeconds"),
    ("cronjob/still-active", made("CronJob", {"concurrencyPolicy": "Forbid"},
                                  {"active": [{"name": "web-1"}]},
                                  events=[said("JobAlreadyActive", "Not starting job")]),
     "job web-1", "Replace"),
    ("cronjob/last-failed", made("CronJob", parts=[made("Job", meta=NEWER, conditions={
        "Failed": "True BackoffLimitExceeded: enough"})]), "web-2", "sampan why job/web-2 -n shop"),
    ("create/quota", made("Job", {"completions": 1}, events=[said("FailedCreate",
                          "pods is forbidden: exceeded quota: q")]), "quota", "Raise"),
    ("create/webhook-unreachable", made("ReplicaSet", {"replicas": 1}, conditions={
        "ReplicaFailure": 'True FailedCreate: failed calling webhook "a.b": connection refused'}),
     "does not answer", "failurePolicy"),
    ("devices/prepare", Facts(pod(ready=False), [said("FailedPrepareDynamicResources",
                              "Failed: DRA driver gpu.example.com is not registered")]),
     "cannot be prepared", "gpu.example.com"),
    ("devices/claim", Facts({**pod(), "status": {"phase": "Pending"}}, [said(
        "FailedResourceClaimCreation", "PodResourceClaim gpu: not found")]),
     "does not look at it", "ResourceClaimTemplate"),
    ("pdb/matches-nothing", budget({}, pod(app="api")), "no pod", "spec.selector"),
    ("pdb/never-allows", budget({"expectedPods": 1, "currentHealthy": 1, "desiredHealthy": 1},
                                pod(app="web"), minAvailable=1), "minAvailable: 1", "one more"),
    ("pdb/unhealthy", budget({"expectedPods": 2, "currentHealthy": 1, "desiredHealthy": 1},
                             pod("web-1", app="web"), pod("web-2", ready=False, app="web")),
     "2 pods, 1 healthy, 1 needed", "sampan why pod/web-2 -n shop"),
    ("pdb/overlapping", budget({"disruptionsAllowed": 1}, pod(app="web"), others=[TWIN]),
     "pod web-1 has both", "one budget"),
    ("ingress/no-class", ingress({}, ingressclasses=CLASSES), "no class", "traefik"),
    ("ingress/class-not-found", ingress({"ingressClassName": "nginx"}), "nginx", "addon enable"),
    ("ingress/no-service", ingress(to({"number": 80}), ingressclasses=CLASSES),
     "a.example/", "Create it"),
    ("ingress/no-port", ingress(to({"number": 8080}), services=[SERVICE]), "80 http", "service's"),
    ("ingress/no-endpoints", ingress(to({"name": "http"}), services=[SERVICE]),
     "Nobody answers", "sampan why service/api -n shop"),
    ("ingress/no-secret", ingress({"tls": [{"secretName": "cert", "hosts": ["a.example"]}]}),
     "a.example", "create secret tls cert"),
    ("ingress/no-address", ingress({"ingressClassName": "traefik"}, ingressclasses=CLASSES),
     "No controller", "ingressclass"),
    ("networkpolicy/matches-nothing", made("NetworkPolicy", {
        "podSelector": {"matchLabels": {"app": "web"}}}, others={"pods": [pod(app="api")]}),
     "app=web", "podSelector"),
    ("node/not-ready", made("Node", conditions={"Ready": "Unknown NodeStatusUnknown: silent"}),
     "not been heard of", "sampan status"),
    ("node/pressure", made("Node", conditions={"DiskPressure": "True Full: no disk"}),
     "disk space", "Free"),
    ("node/cordoned", made("Node", {"unschedulable": True}), "cordoned", "kubectl uncordon web"),
    ("node/drain-blocked", made("Node", {"unschedulable": True}, others=CORDONED),
     "shop/web-1: budget twin", "sampan why pdb/twin -n shop"),
    ("terminating/finalizers", made("Namespace", meta=GOING,
                                    others={"widgets.example.com": [HELD]}),
     "widgets.example.com/keep: example.com/hold", "-n web --type=merge"),
    ("namespace/discovery", made("Namespace", meta=GOING, conditions={
        "NamespaceDeletionDiscoveryFailure": "True DiscoveryFailed: metrics: down"}),
     "metrics: down", "apiservices"),
    ("terminating/finalizers", made("Service", meta=GOING | {"finalizers": ["a/b"]}),
     "a/b", "kubectl patch service web -n shop"),
    ("terminating/finalizers", made("Widget", meta=GOING | {"finalizers": ["a/b"]}),
     "a/b", "kubectl patch widget web -n shop"),
    ("condition", made("Certificate", conditions={"Ready": "False Issuing: no issuer"}),
     "no issuer", "message"),
    ("warning", made("Widget", events=[said("Broken", "it fell")]), "it fell", "message"),
]  # fmt: skip


@pytest.mark.parametrize(("cause", "facts", "word", "fix"), EXAMPLES)
def test_examples(cause: str, facts: Facts, word: str, fix: str) -> None:
    found = {item.cause: item for item in findings_of(facts)}
    assert cause in found, found
    item = found[cause]
    assert word in " ".join([item.text, *item.evidence])
    assert fix in " ".join(item.fix)
    assert item.broken
    assert tree_of(facts).children


def test_a_policy_is_worth_a_note_of_a_pod_that_is_well() -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 80}]}
    shut: Any = {"metadata": {"name": "shut"}, "spec": {"podSelector": {}}}
    some: Any = {"metadata": {"name": "some"}, "spec": {"podSelector": {}, "ingress": [rule]}}
    for policies, text in (([shut], "nobody."), ([shut, some], "whom it does not name")):
        facts = Facts(pod(app="db"), others={"networkpolicies": policies})
        well, note = findings_of(facts)
        assert (well.cause, note.cause, note.broken) == ("running", "note/ingress-policy", False)
        assert text in note.text
    assert "some: from pods app=web, port 80" in note.evidence
    other = {"metadata": {"name": "o"}, "spec": {"podSelector": {"matchLabels": {"app": "x"}}}}
    assert len(findings_of(Facts(pod(app="db"), others={"networkpolicies": [other]}))) == 1


def test_what_is_asked_of_a_namespace_that_stays_and_of_kinds_nobody_knows() -> None:
    remain = "Some resources are remaining: pods. has 1 resource instances, " \
        "widgets.example.com has 2 resource instances"  # fmt: skip
    going = made("Namespace", meta=GOING | {"name": "shop"}, conditions={
        "NamespaceContentRemaining": f"True SomeResourcesRemain: {remain}"})  # fmt: skip
    known: dict[str, Any] = {
        "/api/v1/namespaces/shop": going.obj,
        "/api/v1/namespaces/shop/pods": {"items": []},
        "/apis/example.com": {"preferredVersion": {"groupVersion": "example.com/v1"}},
        "/apis/example.com/v1/namespaces/shop/widgets": {"items": [HELD]},
        "/apis": {"groups": [{"name": "example.com", "preferredVersion": {
            "groupVersion": "example.com/v1"}}]},
        "/apis/example.com/v1": {"resources": [
            {"name": "widgets", "singularName": "widget", "kind": "Widget", "namespaced": True,
             "shortNames": ["wg"]}]},
        "/apis/example.com/v1/namespaces/shop/widgets/keep": {**HELD, "kind": "Widget"},
    }  # fmt: skip
    facts = gather(known.get, "namespaces", "default", "shop", 0.0)
    assert facts is not None
    assert facts.others == {"pods": [], "widgets.example.com": [HELD]}
    for word in ("wg", "Widget", "widgets.example.com"):
        place = resolve(known.get, word)
        assert place is not None
        assert gather_any(known.get, place, "shop", "keep", 0.0) is not None
        assert gather_any(known.get, place, "shop", "none", 0.0) is None
    assert resolve(known.get, "gadget") is None


def test_a_slip_is_shown_without_what_is_merely_there() -> None:
    pods = [{"metadata": {"labels": {"app": name}}} for name in ("web", "web", "redis", "frontend")]
    assert near_misses({"app": "webb"}, pods) == ["close: 2 pods with app=web"]
    assert near_misses({"app": "web", "tier": "x"}, pods) == ["close: 2 pods with no label tier"]


def test_every_cause_is_named_in_the_documentation() -> None:
    """Programs go by these names."""
    root = Path(__file__).resolve().parents[3]
    named, kind = set(), ""
    for word in re.findall(r"`([a-z/-]+)`", (root / "docs/why.md").read_text()):
        if not word.startswith("/"):
            kind = word.partition("/")[0]
        named.add(f"{kind}{word}" if word.startswith("/") else word)
    sources = "".join(path.read_text() for path in (root / "sampan/cli/why").glob("*.py"))
    made = re.findall(r'(?:Finding|Filter|Refusal)\(\s*"([a-z/-]+)"', sources)
    assert len(made) > 80
    assert {*made} <= named
