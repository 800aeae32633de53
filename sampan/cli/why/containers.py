"""Containers that do not run, or run and are not ready. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sampan.api.errors import Object

from .facts import Facts, Finding, said

LOG_LINES = 3
LINE_LENGTH = 200


class Container(NamedTuple):
    """A container of a pod, its spec and its status."""

    spec: Object
    status: Object
    init: bool

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def word(self) -> str:
        return f"init container {self.name}" if self.init else f"container {self.name}"

    @property
    def waiting(self) -> Object:
        found: Object = (self.status.get("state") or {}).get("waiting") or {}
        return found

    @property
    def ended(self) -> Object:
        """How its last run ended; {} when none has."""
        states = (self.status.get("state") or {}, self.status.get("lastState") or {})
        return next((item["terminated"] for item in states if item.get("terminated")), {})

    @property
    def running(self) -> bool:
        return "running" in (self.status.get("state") or {})


def containers_of(facts: Facts) -> list[Container]:
    found = []
    for field, statuses in (
        ("initContainers", "initContainerStatuses"),
        ("containers", "containerStatuses"),
    ):
        known = {item["name"]: item for item in facts.status.get(statuses) or ()}
        for spec in facts.spec.get(field) or ():
            found.append(Container(spec, known.get(spec["name"], {}), field == "initContainers"))
    return found


def upper(text: str) -> str:
    return text[0].upper() + text[1:]


# Ends

CODES = {
    126: (
        "it may not execute its command",
        "Make the command executable for the container's user.",
    ),
    127: ("its command is not found", "Correct command and args, or the image's PATH."),
    134: ("it aborted (SIGABRT)", "The program ended itself: its log says why."),
    137: (
        "it was killed (SIGKILL)",
        "Somebody killed it: the kernel for memory, or kubelet after the grace period.",
    ),
    139: (
        "it crashed (SIGSEGV)",
        "The program touched memory that is not its own: a bug, or an image for another processor.",
    ),
    143: ("it was asked to end (SIGTERM)", "Somebody asked it to end: see the events."),
}


NEVER_RAN = "StartError"
"""Why a run ended that never began."""


def crashing(facts: Facts) -> Iterator[Finding]:
    for item in containers_of(facts):
        ended = item.ended
        code = ended.get("exitCode")
        restarts = item.status.get("restartCount") or 0
        again = item.waiting.get("reason") == "CrashLoopBackOff"
        for_memory = ended.get("reason") == "OOMKilled"
        if not ended or (code == 0 and not again):
            continue
        if not (again or restarts or item.init or for_memory):
            continue
        if ended.get("reason") == NEVER_RAN:
            continue  # there is no log; what the runtime said is said of its start
        if for_memory:
            limit = ((item.spec.get("resources") or {}).get("limits") or {}).get("memory")
            yield Finding(
                "container/oom",
                f"{upper(item.word)} used more memory than it may, and was killed.",
                [f"limits.memory: {limit or 'none; the node was short'}", *_ended(facts, item)],
                [
                    f"Raise limits.memory above {limit}, or have the program use less."
                    if limit
                    else "Set requests.memory to what it needs."
                ],
            )
            continue
        if facts.event("Unhealthy") and code in (137, 143) and item.spec.get("livenessProbe"):
            continue  # the probe's finding says more
        say = "" if facts.logs.get(item.name) else "Its log says why."
        text, fix = CODES.get(code or 0, (f"it ends with exit code {code}", say))
        if code == 0:
            text, fix = (
                "it ends though nothing is wrong",
                (
                    "A Deployment's container is to run on: keep the program in the foreground, or "
                    "use a Job."
                ),
            )
        yield Finding(
            "container/crash",
            f"{upper(item.word)} ends again and again: {text}."
            if restarts
            else f"{upper(item.word)} has failed: {text}.",
            _ended(facts, item),
            [*([fix] if fix else []), _log(facts, item)],
        )


def _ended(facts: Facts, item: Container) -> list[str]:
    ended, restarts = item.ended, item.status.get("restartCount") or 0
    out = [f"last run: exit code {ended.get('exitCode')}, {ended.get('reason', 'Error')}"]
    if restarts:
        out.append(f"restarts: {restarts}")
    out += wrote(facts, item)
    if ended.get("message"):
        out.append(f"it said: {ended['message'].strip()[-300:]}")
    if item.waiting.get("message"):
        out.append(item.waiting["message"])
    return out


def wrote(facts: Facts, item: Container) -> list[str]:
    """The last lines of its log."""
    lines = facts.logs.get(item.name, "").splitlines()[-LOG_LINES:]
    return [f"it wrote: {line[:LINE_LENGTH]}" for line in lines]


def _log(facts: Facts, item: Container) -> str:
    meta = facts.obj["metadata"]
    return f"kubectl logs -n {meta['namespace']} {meta['name']} -c {item.name} --previous"


# Probes

PROBES: tuple[tuple[str, str, Callable[[Container], bool], str], ...] = (
    (
        "Liveness",
        "livenessProbe",
        lambda item: True,
        "is killed and started again because its liveness probe fails",
    ),
    (
        "Startup",
        "startupProbe",
        lambda item: not item.status.get("started"),
        "has not passed its startup probe",
    ),
    (
        "Readiness",
        "readinessProbe",
        lambda item: not item.status.get("ready"),
        "runs, but its readiness probe fails, so services do not send to it",
    ),
)


def probes(facts: Facts) -> Iterator[Finding]:
    for item in containers_of(facts):
        for word, field, concerns, text in PROBES:
            probe = item.spec.get(field)
            failed = [
                event
                for event in facts.events
                if event.get("reason") == "Unhealthy"
                and (event.get("message") or "").startswith(f"{word} probe")
                and item.name in (event.get("involvedObject") or {}).get("fieldPath", item.name)
            ]
            if probe and concerns(item) and failed:
                yield Finding(
                    f"probe/{word.lower()}",
                    f"{upper(item.word)} {text}.",
                    [f"{field}: {probe_text(probe)}", said(failed[-1])],
                    [_mend(word, probe)],
                )


def probe_text(probe: Object) -> str:
    """What a probe asks, in few words."""
    if "httpGet" in probe:
        get = probe["httpGet"]
        what = f"GET {get.get('path', '/')} on port {get.get('port')}"
    elif "tcpSocket" in probe:
        what = f"connect to port {probe['tcpSocket'].get('port')}"
    elif "grpc" in probe:
        what = f"gRPC health on port {probe['grpc'].get('port')}"
    else:
        what = "run " + " ".join((probe.get("exec") or {}).get("command") or ())
    return (
        f"{what} every {probe.get('periodSeconds', 10)} s, "
        f"{probe.get('failureThreshold', 3)} failures count"
    )


def _mend(word: str, probe: Object) -> str:
    if word == "Liveness":
        return (
            "Check port and path; give a slow start a startupProbe, or the probe a longer "
            "timeoutSeconds."
        )
    if word == "Startup":
        seconds = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        return f"It has {seconds} s to start: raise failureThreshold, or mend the start."
    return "Check that the program listens on that port and that what it needs is there."


# Order


def waiting_for_init(facts: Facts) -> Iterator[Finding]:
    """The first init container that is not done holds all others."""
    for item in containers_of(facts):
        if not item.init:
            return
        done = item.ended and item.ended.get("exitCode") == 0
        sidecar = item.spec.get("restartPolicy") == "Always" and item.status.get("started")
        if done or sidecar:
            continue
        if item.running:
            others = len(facts.spec["initContainers"])
            yield Finding(
                "init/running",
                f"It waits for {item.word} to end.",
                [f"{item.name} is one of {others} init containers, run in order"],
                [f"kubectl logs {facts.name} -c {item.name} shows what it waits for."],
            )
        return


def not_ready(facts: Facts) -> Iterator[Finding]:
    """Running, no probe failing as far as known, and not ready."""
    gates: list[Any] = facts.spec.get("readinessGates") or []
    for gate in gates:
        kind = gate["conditionType"]
        if facts.condition(kind).get("status") != "True":
            yield Finding(
                "readiness-gate",
                f"It waits for somebody to set its condition {kind}.",
                [f"spec.readinessGates: {kind}"],
                [f"Whoever asked for the gate is to set {kind}=True in its status."],
            )
