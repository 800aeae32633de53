"""What is told of rollouts of StatefulSets, under upstream's names
(pkg/controller/statefulset/metrics). Bound: two numbers per set."""

from __future__ import annotations

MAX_UNAVAILABLE = "statefulset_controller_statefulset_max_unavailable"
UNAVAILABLE = "statefulset_controller_statefulset_unavailable_replicas"


class Gauges:
    """Per set: how many pods may be unavailable in a rollout, and how many are."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, int, int]] = {}

    def set(self, namespace: str, name: str, policy: str, limit: int, unavailable: int) -> None:
        self._known[namespace, name] = (policy, limit, unavailable)

    def forget(self, namespace: str, name: str) -> None:
        self._known.pop((namespace, name), None)

    def exposition(self) -> str:
        """Prometheus text; "" without sets."""
        out: list[str] = []
        for metric, place in ((MAX_UNAVAILABLE, 1), (UNAVAILABLE, 2)):
            if self._known:
                out.append(f"# TYPE {metric} gauge")
            for (namespace, name), row in self._known.items():
                labels = (
                    f'statefulset_namespace="{namespace}",statefulset_name="{name}",'
                    f'pod_management_policy="{row[0]}"'
                )
                out.append(f"{metric}{{{labels}}} {row[place]}")
        return "".join(f"{line}\n" for line in out)
