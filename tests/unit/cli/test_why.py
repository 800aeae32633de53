"""`sampan why`: worked examples, facts in and the cause with its remedy out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sampan.cli.why.facts import Facts
from sampan.cli.why.finding import chain_of, findings_of, grouped, parts_of
from sampan.cli.why.gathering import gather
from sampan.cli.why.judging import judge
from sampan.cli.why.scheduling import reasons_of
from sampan.cli.why.showing import as_data, tree_of

NOW_S = 1_700_000_000.0
LONG_AGO, SOON = "2023-11-14T22:00:00Z", "2023-11-14T23:00:00Z"
RUNNING: Any = {"running": {"startedAt": LONG_AGO}}


def pod(status: Any = None, meta: Any = None, container: Any = None, **spec: Any) -> Any:
    main = {"name": "main", "image": "web:1", **(container or {})}
    return {
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", **(meta or {})},
        "spec": {"containers": [main], **spec},
        "status": {"phase": "Pending", **(status or {})},
    }


def said(reason: str, message: str, **more: Any) -> Any:
    return {"reason": reason, "message": message, **more}


def unschedulable(message: str, **spec: Any) -> Any:
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return Facts(pod({"conditions": [{**why, "message": message}]}, **spec))


def waiting(reason: str, message: str = "", *events: Any, **status: Any) -> Any:
    state = {"name": "main", "state": {"waiting": {"reason": reason, "message": message}}, **status}
    return Facts(pod({"containerStatuses": [state]}, nodeName="n"), [*events])


def crashed(code: int, reason: str = "Error", message: str = "", **container: Any) -> Any:
    state = {
        "name": "main",
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": code, "reason": reason, "message": message}},
    }
    return Facts(pod({"containerStatuses": [state]}, container=container, nodeName="n"))


def probed(probe: str, word: str, **status: Any) -> Any:
    state = {"name": "main", "state": RUNNING, "started": True, "ready": True, **status}
    asked = {probe: {"httpGet": {"path": "/healthz", "port": 8080}}}
    obj = pod({"phase": "Running", "containerStatuses": [state]}, container=asked, nodeName="n")
    return Facts(obj, [said("Unhealthy", f"{word} probe failed: HTTP probe failed: 503", count=7)])


def workload(kind: str, spec: Any, status: Any, *events: Any, **conditions: str) -> Any:
    listed = [
        {"type": key, "status": "True", "reason": value.partition(": ")[0],
         "message": value.partition(": ")[2]}
        for key, value in conditions.items()
    ]  # fmt: skip
    meta = {"name": "web", "namespace": "shop", "uid": "w", "generation": 1}
    status = {"observedGeneration": 1, "conditions": listed, **status}
    return Facts({"kind": kind, "metadata": meta, "spec": spec, "status": status}, [*events])


def quota(text: str) -> Any:
    return workload("ReplicaSet", {"replicas": 3}, {"replicas": 1, "readyReplicas": 1},
                    ReplicaFailure=f"FailedCreate: web-x is forbidden: {text}")  # fmt: skip


def claim(status: Any = None, meta: Any = None, **spec: Any) -> Any:
    asked = {"resources": {"requests": {"storage": "5Gi"}}, "accessModes": ["ReadWriteOnce"]}
    obj = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "shop", **(meta or {})},
        "spec": asked | spec,
        "status": {"phase": "Pending", **(status or {})},
    }
    late = {"metadata": {"name": "late"}, "volumeBindingMode": "WaitForFirstConsumer"}
    classes = [late, {"metadata": {"name": "csi"}, "provisioner": "disk.example"}]
    small = {"metadata": {"name": "v1"}, "status": {"phase": "Available"},
             "spec": {"capacity": {"storage": "1Gi"}}}  # fmt: skip
    user = pod(volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}])
    others: Any = {"storageclasses": classes, "persistentvolumes": [small], "pods": [user]}
    return Facts(obj, others=others)


def service(pods: list[Any], **spec: Any) -> Any:
    obj = {"kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec}
    return Facts(obj, others={"pods": pods})


def labelled(ready: bool, **labels: str) -> Any:
    status = {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    ports = [{"name": "http", "containerPort": 80}]
    return pod(status, {"labels": labels}, {"ports": ports})


INIT = {
    "name": "wait", "state": {"running": {}}, "restartCount": 0,
}  # fmt: skip
LEAVING = {"deletionTimestamp": LONG_AGO, "deletionGracePeriodSeconds": 30}
GONE = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
WEB = {"selector": {"app": "web"}}

EXAMPLES: list[tuple[str, Facts, str, str]] = [
    # (cause, facts, a word of what is said, a word of what to do)
    ("unschedulable/resources", unschedulable("0/2 nodes are available: 2 Insufficient cpu."),
     "room", "Ask for less cpu"),
    ("unschedulable/resources", unschedulable("0/1 nodes are available: 1 Too many pods."),
     "1 node(s): Too many pods", "remove pods"),
    ("unschedulable/taints",
     unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}."),
     "tainted", "toleration of gpu: yes"),
    ("unschedulable/node-labels",
     unschedulable("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
                   nodeSelector={"disk": "ssd"}), "labels", "kubectl label node NAME disk=ssd"),
    ("unschedulable/ports", unschedulable(
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."),
     "hostPort", "Drop hostPort"),
    ("unschedulable/anti-affinity", unschedulable(
        "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."),
     "keep each other away", "fewer replicas"),
    ("unschedulable/affinity", unschedulable(
        "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."), "near", "labels"),
    ("unschedulable/spread", unschedulable(
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints."),
     "uneven", "maxSkew"),
    ("unschedulable/spread", unschedulable(
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing "
        "required label).", topologySpreadConstraints=[{"topologyKey": "rack"}]),
     "uneven", "Label the nodes (rack)"),
    ("unschedulable/node-labels",
     unschedulable("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
                   nodeSelector={"kubernetes.io/hostname": "n7"}), "labels", "other node than n7"),
    ("node/none", Facts(pod(nodeName="ghost"), nodes=[{"metadata": {"name": "n1"}}]),
     "does not exist", "spec.nodeName out"),
    ("unschedulable/volume-node", unschedulable(
        "0/1 nodes are available: 1 node(s) had volume node affinity conflict."),
     "elsewhere", "where its volumes are"),
    ("unschedulable/claim", unschedulable(
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
     "claims are not bound", "sampan why pvc"),
    ("unschedulable/claim-in-use", unschedulable(
        "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with "
        "ReadWriteOncePod access mode already in-use by another pod. no new claims to deallocate, "
        "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."),
     "for one pod alone", "when that pod has ended"),
    ("unschedulable/other", unschedulable(
        "0/3 nodes are available: 1 Insufficient cpu, 2 no licence left. no new claims to "
        "deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for "
        "scheduling."),
     "2 node(s): no licence left", "whom scheduler.yaml names"),
    ("scheduler-error", Facts(pod({"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulerError",
         "message": "failed filter with extender at URL https://a.b/filter, code 500"}]})),
     "code 500", "bring the one that fails back"),
    ("unschedulable/no-nodes", unschedulable("no nodes available to schedule pods"),
     "no nodes", "sampan up"),
    ("scheduling-gated", Facts(pod(schedulingGates=[{"name": "example.com/later"}])),
     "example.com/later", "remove it"),
    ("no-scheduler", Facts(pod(schedulerName="mine")), "mine", "Start the scheduler mine"),
    ("image/not-found", waiting("ImagePullBackOff", "",
                                said("Failed", 'Failed to pull image "web:1": not found')),
     "no such image", "Check the name and tag of web:1"),
    ("image/unauthorized", waiting("ErrImagePull", "401 Unauthorized"), "registry",
     "imagePullSecrets"),
    ("image/unreachable", waiting("ErrImagePull", "dial tcp: i/o timeout"), "reached", "network"),
    ("image/invalid-name", waiting("InvalidImageName"), "no valid name", "registry/path:tag"),
    ("image/invalid-name", waiting("InvalidImageName", "repository name must be lowercase"),
     "no valid name", "small: web:1"),
    ("container/root", waiting("CreateContainerConfigError",
                               "container has runAsNonRoot and image will run as root"),
     "may not run as root", "runAsUser"),
    ("image/never-pulled", waiting("ErrImageNeverPull"), "not on the node", "sampan image load"),
    ("container/config", waiting("CreateContainerConfigError", 'configmap "cm" not found'),
     "not there", "Create the configmap cm"),
    ("container/start", waiting("RunContainerError", "exec: no such file or directory"),
     "cannot be started", "command"),
    # It never ran, so there is no log to look at.
    ("container/start", crashed(128, "StartError", message="executable file not found",
                                command=["serve"]), "cannot be started", "has no 'serve'"),
    ("volume/mount", waiting("ContainerCreating", "",
                             said("FailedMount", 'secret "tls" not found')),
     "mounted", "Create the secret tls"),
    ("container/crash", crashed(1), "exit code 1", "--previous"),
    ("container/crash", crashed(127), "command is not found", "PATH"),
    ("container/crash", crashed(0, "Completed"), "though nothing is wrong", "foreground"),
    ("container/oom", Facts(pod({"phase": "Failed", "containerStatuses": [{
        "name": "main", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }]}, nodeName="n")), "more memory", "Set requests.memory"),
    ("image/unreachable", waiting("ErrImagePull", "dial tcp: lookup web.invalid: no such host"),
     "reached", "network"),
    ("container/oom", crashed(137, "OOMKilled", resources={"limits": {"memory": "64Mi"}}),
     "more memory", "Raise limits.memory above 64Mi"),
    ("probe/readiness", probed("readinessProbe", "Readiness", ready=False),
     "GET /healthz on port 8080", "listens on that port"),
    ("probe/liveness", probed("livenessProbe", "Liveness"), "(7 times)", "startupProbe"),
    ("probe/startup", probed("startupProbe", "Startup", started=False), "startup", "30 s"),
    ("init/running", Facts(pod({"initContainerStatuses": [INIT]}, nodeName="n",
                               initContainers=[{"name": "wait"}])), "init container wait", "logs"),
    ("readiness-gate", Facts(pod({"phase": "Running"}, nodeName="n",
                                 readinessGates=[{"conditionType": "example.com/lb"}])),
     "example.com/lb", "=True"),
    ("terminating/finalizers", Facts(pod({}, {**LEAVING, "finalizers": ["example.com/hold"]})),
     "finalizers keep it", "example.com/hold"),
    ("terminating/grace", Facts(pod({}, LEAVING), now_s=NOW_S), "should have ended", "SIGTERM"),
    ("disrupted", Facts(pod({"phase": "Failed", "conditions": [GONE]})), "more important",
     "priorityClassName"),
    ("evicted", Facts(pod({"phase": "Failed", "reason": "Evicted", "message": "low on memory"})),
     "low on memory", "requests"),
    ("node/not-ready", Facts(pod({"phase": "Running"}, nodeName="n"), nodes=[
        {"metadata": {"name": "n"}, "status": {"conditions": [
            {"type": "Ready", "status": "Unknown", "message": "stopped posting"}]}}]),
     "stopped posting", "sampan status"),
    ("create/quota", quota("exceeded quota: small, requested: pods=1"), "used up", "ResourceQuota"),
    ("create/pod-security", quota('violates PodSecurity "restricted:latest"'), "level",
     "securityContext"),
    ("create/webhook", workload(
        "ReplicaSet", {"replicas": 1}, {}, ReplicaFailure='FailedCreate: admission webhook "a.b"'),
     "webhook", "Do what the webhook asks"),
    ("create/quota", workload("StatefulSet", {"replicas": 2}, {"replicas": 1},
                              said("FailedCreate", "forbidden: exceeded quota: q")), "quota", "q"),
    ("deployment/deadline", workload(
        "Deployment", {"replicas": 1}, {},
        Progressing='ProgressDeadlineExceeded: ReplicaSet "web-1" has timed out progressing.'),
     "600 s", "kubectl rollout undo deployment/web"),
    ("deployment/paused", workload("Deployment", {"paused": True}, {}), "paused", "resume"),
    ("scaled-to-zero", workload("Deployment", {"replicas": 0}, {}), "scaled to 0", "--replicas=1"),
    ("daemonset/no-nodes", workload("DaemonSet", {}, {"desiredNumberScheduled": 0}),
     "No node", "Label nodes"),
    ("job/back-off", workload("Job", {}, {"failed": 7},
                              Failed="BackoffLimitExceeded: Job has reached it"),
     "7 failed", "backoffLimit"),
    ("job/deadline", workload("Job", {}, {}, Failed="DeadlineExceeded: too long"),
     "longer than", "activeDeadlineSeconds"),
    ("job/suspended", workload("Job", {"suspend": True}, {}), "suspended", "kubectl patch"),
    ("pvc/class-not-found", claim(storageClassName="fast"), "csi, late", "a class fast"),
    ("pvc/no-class", claim(), "too small: 1Gi", "Name a class"),
    ("pvc/waits-for-pod", claim(storageClassName="late"), "pod web", "sampan why pod/web"),
    ("pvc/provisioner", claim(storageClassName="csi"), "disk.example", "driver"),
    ("pvc/lost", claim({"phase": "Lost"}, volumeName="v0"), "v0", "Restore"),
    ("pvc/in-use", claim({"phase": "Bound"}, {**LEAVING,
                                              "finalizers": ["kubernetes.io/pvc-protection"]}),
     "used by pod web", "last of them"),
    ("service/matches-nothing", service([labelled(True, app="webb")], **WEB),
     "1 pod with app=webb", "Correct spec.selector"),
    ("service/not-ready", service([labelled(False, app="web")], **WEB), "None of its 1 pod",
     "sampan why pod/web"),
    ("service/port-name", service([labelled(True, app="web")], **WEB, ports=[{"targetPort": "x"}]),
     "the pods' ports: http", "Name the container's port"),
    ("service/port-number", service([labelled(True, app="web")], **WEB, ports=[{"port": 81}]),
     "targetPort 81", "set targetPort"),
    ("service/no-selector", service([]), "no selector", "EndpointSlice"),
]  # fmt: skip


@pytest.mark.parametrize(("cause", "facts", "word", "fix"), EXAMPLES)
def test_examples(cause: str, facts: Facts, word: str, fix: str) -> None:
    found = {item.cause: item for item in findings_of(facts)}
    assert cause in found, found
    item = found[cause]
    assert word in " ".join([item.text, *item.evidence])
    assert fix in " ".join([*item.fix, *item.evidence])
    assert item.broken
    assert json.loads(json.dumps(as_data(facts)))["findings"][0]["text"]
    assert tree_of(facts).children


def test_there_are_examples_of_many_causes() -> None:
    assert len({cause for cause, *_ in EXAMPLES}) >= 40


def test_what_is_well_says_so() -> None:
    ready = {"type": "Ready", "status": "True"}
    found = findings_of(Facts(pod({"phase": "Running", "conditions": [ready]}, nodeName="n")))
    assert [(item.cause, item.broken) for item in found] == [("running", False)]
    assert not findings_of(workload("Job", {}, {}, Complete="Done"))[0].broken
    assert not findings_of(service([labelled(True, app="web")], **WEB))[0].broken
    assert findings_of(Facts(pod({"phase": "Running"}, nodeName="n")))[0].cause == "unknown"


def test_the_schedulers_message_is_read() -> None:
    text = (
        "0/4 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}, 1 "
        "Too many pods. no new claims to deallocate, preemption: 0/4 nodes are available: 1 x."
    )
    assert reasons_of(text) == {
        "Insufficient cpu": 1,
        "node(s) had untolerated taint {a: b}": 2,
        "Too many pods": 1,
    }


def test_each_node_is_judged_as_the_scheduler_does() -> None:
    def node(name: str, cpu: str, *taints: str) -> Any:
        listed = [{"key": key, "effect": "NoSchedule"} for key in taints]
        has = {"cpu": cpu, "memory": "8Gi", "pods": "10"}
        return {
            "metadata": {"name": name, "labels": {}},
            "spec": {"taints": listed},
            "status": {"allocatable": has, "conditions": []},
        }

    nodes = [node("large", "8", "gpu"), node("small", "2"), node("fits", "4")]
    asked = {"resources": {"requests": {"cpu": "1500m"}}}
    placed = {**pod({}, {"uid": "other"}, asked), "kind": "Pod"}
    placed["spec"]["nodeName"] = "small"
    big = pod(container={"resources": {"requests": {"cpu": "3"}}})
    judged = judge(big, nodes, [placed], [])
    assert judged.reasons == {
        "large": ["node(s) had untolerated taint(s)"],
        "small": ["Insufficient cpu"],
    }
    assert judged.free["small"] == {"cpu": "500m of 2"}
    facts = unschedulable("0/2 nodes are available: 2 x.")
    facts.nodes, (facts.judged, facts.free) = nodes, judged
    causes = {item.cause: item for item in findings_of(facts)}
    assert causes["unschedulable/resources"].evidence == [
        "small: Insufficient cpu (500m of 2 free)"
    ]
    assert causes["unschedulable/taints"].evidence == [
        "large: node(s) had untolerated taint(s) (gpu:NoSchedule)"
    ]


def test_nodes_that_are_not_meant_say_least() -> None:
    ports, labels = "didn't have free ports", "didn't match Pod's node affinity/selector"
    facts = unschedulable(f"0/9 nodes are available: 1 node(s) {ports}, 8 node(s) {labels}.")
    facts.judged = {f"n{number}": [f"node(s) {labels}"] for number in range(8)}
    facts.judged["mine"] = [f"node(s) {ports}"]
    first, second = findings_of(facts)
    assert (first.cause, first.evidence) == ("unschedulable/ports", [f"mine: node(s) {ports}"])
    assert (second.text, second.fix) == ("It does not mean other nodes.", [])
    # Nodes of which the same is to be said are told together.
    assert second.evidence == [f"n0, n1, n2, n3, n4 and 3 more: node(s) {labels}"]


def test_an_extended_resource_that_is_sought_among_devices_is_not_asked_of_nodes() -> None:
    node = {"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "1", "pods": "9"}}}
    asked = {"resources": {"requests": {"a.b/gpu": "1"}}}
    for message, reasons in (
        ("1 cannot allocate all claims", {}),
        ("1 Insufficient a.b/gpu", {"n1": ["Insufficient a.b/gpu"]}),
    ):
        why = {"type": "PodScheduled", "status": "False", "message": message}
        found = judge(pod({"conditions": [why]}, container=asked), [node], [], [])
        assert found.reasons == reasons


def test_a_workload_tells_its_pods_troubles_once_and_who_scales_it() -> None:
    facts = workload("Deployment", {"replicas": 3}, {"readyReplicas": 0})
    facts.parts = [crashed(1), crashed(1), waiting("ErrImagePull", "401")]
    groups = grouped(parts_of(facts))
    assert [(len(parts), found[0].cause) for parts, found in groups] == [
        (2, "container/crash"),
        (1, "image/unauthorized"),
    ]
    scaler = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"minReplicas": 2, "maxReplicas": 9},
        "status": {"desiredReplicas": 3},
    }
    part = facts.parts[0]
    part.owners = [facts.obj, scaler]
    assert chain_of(part) == [
        "Deployment web (3 replicas)",
        "HorizontalPodAutoscaler web (2 to 9 replicas, wants 3)",
    ]


def test_a_statefulset_names_the_pod_it_waits_for() -> None:
    facts = workload("StatefulSet", {"replicas": 3}, {"replicas": 1, "readyReplicas": 0})
    facts.parts = [waiting("ErrImagePull", "401")]
    facts.parts[0].obj["metadata"]["name"] = "web-0"
    found = {item.cause: item for item in findings_of(facts)}
    assert found["statefulset/order"].text == "It goes on when web-0 is ready."


def test_what_is_asked_for_a_pod_and_what_its_log_says() -> None:
    found = crashed(3).obj
    found["metadata"]["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": "web-1", "uid": "r", "controller": True}
    ]
    owner = {"kind": "Deployment", "name": "web", "uid": "d", "controller": True}
    middle = {"metadata": {"name": "web-1", "uid": "r", "ownerReferences": [owner]}}
    top = {"metadata": {"name": "web", "uid": "d"}, "spec": {"replicas": 2}}
    scaler = {
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
        "status": {"desiredReplicas": 2},
    }
    event = {**said("BackOff", "later"), "involvedObject": {"uid": "u"}}
    answers: dict[str, Any] = {
        "/api/v1/namespaces/shop/pods/web": found,
        "/api/v1/namespaces/shop/events": {"items": [event, {"involvedObject": {"uid": "x"}}]},
        "/apis/apps/v1/namespaces/shop/replicasets/web-1": middle,
        "/apis/apps/v1/namespaces/shop/deployments/web": top,
        "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers": {"items": [scaler]},
        "/api/v1/namespaces/shop/pods/web/log": "one\ntwo\nno database\n",
    }
    facts = gather(lambda path: answers.get(path.partition("?")[0]), "pods", "shop", "web", NOW_S)
    assert facts is not None
    assert [item["reason"] for item in facts.events] == ["BackOff"]
    assert chain_of(facts) == [
        "ReplicaSet web-1",
        "Deployment web (2 replicas)",
        "HorizontalPodAutoscaler h (1 to 9 replicas, wants 2)",
    ]
    assert "it wrote: no database" in findings_of(facts)[0].evidence
    assert gather(lambda path: None, "pods", "shop", "none", NOW_S) is None
