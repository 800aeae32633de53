"""What becomes of simulated containers: outcomes, and the rules that choose them for pods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from sampan.api.errors import Object


class Outcome(Struct, frozen=True):
    """The life of a container. Times are seconds; the default is one that starts at once, is
    ready at once, and runs on (or, where the restart policy lets a pod end, ends well at once)."""

    start_s: float = 0.0
    """From the decision to start until it runs: the pull and the start."""
    ready_s: float | None = 0.0
    """From running to ready; None is never."""
    run_s: float | None = None
    """How long each run lasts; None is for ever, but 0 in pods that may end."""
    exit_code: int = 0
    reason: str = ""
    """Of the exit where it is not Completed or Error: OOMKilled, say."""
    message: str = ""
    """The termination message, or the one that goes with `waiting`."""
    waiting: str = ""
    """Why it never starts: ImagePullBackOff, ErrImagePull, CreateContainerConfigError ..."""
    stop_s: float = 0.0
    """From the pod's deletion until it has stopped; at most the grace period counts."""
    back_off_s: float | None = None
    """Longest wait before it is started again; None: kubelet's (10 s, doubling to 300)."""
    logs: str = ""
    """What `kubectl logs` gives."""
    cpu: str = "1m"
    memory: str = "16Mi"
    """What it uses while it runs: for `kubectl top` and autoscalers."""


RUNS = Outcome()

Match = Callable[[Object], bool]
"""Does a rule speak of this pod?"""


class Rule(Struct, frozen=True):
    """An outcome for the pods that `match`; for one container of theirs, or ("") for all."""

    match: Match
    outcome: Outcome
    container: str = ""


class Script:
    """Rules, of which the last one added that matches counts."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        self._rules.append(rule)

    def clear(self) -> None:
        self._rules.clear()

    def outcome(self, pod: Object, container: Mapping[str, Any]) -> Outcome:
        """What becomes of one container of `pod`."""
        for rule in reversed(self._rules):
            if rule.container in ("", container["name"]) and rule.match(pod):
                return rule.outcome
        return RUNS


def matcher(
    name: str = "*",
    *,
    namespace: str = "*",
    labels: Mapping[str, str] | None = None,
    image: str = "*",
) -> Match:
    """Pods whose name, namespace and an image match these patterns (`*`, `?`, `[...]`), and that
    carry the labels."""
    wanted = (labels or {}).items()

    def match(pod: Object) -> bool:
        meta = pod["metadata"]
        if not fnmatchcase(meta["name"], name):
            return False
        if not fnmatchcase(meta.get("namespace", ""), namespace):
            return False
        if wanted - (meta.get("labels") or {}).items():
            return False
        containers = pod["spec"]["containers"]
        return any(fnmatchcase(item.get("image", ""), image) for item in containers)

    return match
