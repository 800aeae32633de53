"""How many volumes and claims there are, bound and not, under upstream's names
(pkg/controller/volume/persistentvolume/metrics). Counted when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sampan.api.errors import Object
from sampan.api.volumes import class_of

PLUGINS = {
    "local": "kubernetes.io/local-volume",
    "hostPath": "kubernetes.io/host-path",
    "nfs": "kubernetes.io/nfs",
    "iscsi": "kubernetes.io/iscsi",
    "fc": "kubernetes.io/fc",
}
"""Field of a volume's source to its plugin; others count as N/A, as upstream has it."""
Labels = tuple[tuple[str, str], ...]


def exposition(volumes: Iterable[Object], claims: Iterable[Object]) -> str:
    """Prometheus text; "" when there is nothing of the kind, which costs a cluster nothing."""
    counts: dict[str, Counter[Labels]] = {}

    def add(name: str, *labels: tuple[str, str]) -> None:
        counts.setdefault(f"pv_collector_{name}_count", Counter())[labels] += 1

    for volume in volumes:
        spec = volume["spec"]
        mode = spec.get("volumeMode") or "Filesystem"
        add("total_pv", ("plugin_name", _plugin(spec)), ("volume_mode", mode))
        add(f"{_word(volume)}_pv", ("storage_class", class_of(volume) or ""))
    for claim in claims:
        add(
            f"{_word(claim)}_pvc",
            ("namespace", claim["metadata"]["namespace"]),
            ("storage_class", class_of(claim) or ""),
            ("volume_attributes_class", claim["spec"].get("volumeAttributesClassName") or ""),
        )
    lines: list[str] = []
    for name in sorted(counts):
        lines.append(f"# TYPE {name} gauge")
        for labels, count in sorted(counts[name].items()):
            text = ",".join(f'{key}="{value}"' for key, value in labels)
            lines.append(f"{name}{{{text}}} {count}")
    return "\n".join([*lines, ""]) if lines else ""


def _word(obj: Object) -> str:
    return "bound" if (obj.get("status") or {}).get("phase") == "Bound" else "unbound"


def _plugin(spec: Object) -> str:
    if spec.get("csi"):
        return f"kubernetes.io/csi:{spec['csi'].get('driver', '')}"
    return next((name for field, name in PLUGINS.items() if spec.get(field)), "N/A")
