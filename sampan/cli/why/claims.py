"""PersistentVolumeClaims. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.api.errors import Object
from sampan.wire.quantity import compare

from .facts import Facts, Finding, is_finished, said

PROTECTION = "kubernetes.io/pvc-protection"
DEFAULT = "storageclass.kubernetes.io/is-default-class"


def leaving(facts: Facts) -> Iterator[Finding]:
    meta = facts.obj["metadata"]
    if not meta.get("deletionTimestamp"):
        return
    if PROTECTION in (meta.get("finalizers") or ()):
        users = users_of(facts)
        yield Finding(
            "pvc/in-use",
            "It is deleted, but pods still use it.",
            [f"used by pod {name}" for name in users] or [f"finalizer {PROTECTION}"],
            ["It goes when the last of them has ended."],
        )


def users_of(facts: Facts) -> list[str]:
    """The pods that name the claim."""
    return [
        pod["metadata"]["name"]
        for pod in facts.others.get("pods", [])
        if not is_finished(pod)
        and any(
            (volume.get("persistentVolumeClaim") or {}).get("claimName") == facts.name
            for volume in pod["spec"].get("volumes") or ()
        )
    ]


def bound(facts: Facts) -> Iterator[Finding]:
    phase = facts.status.get("phase")
    if phase == "Bound":
        volume = facts.spec.get("volumeName")
        yield Finding("running", f"It is bound to volume {volume}.", broken=False)
    elif phase == "Lost":
        yield Finding(
            "pvc/lost",
            "The volume it was bound to is gone, with what was on it.",
            [f"spec.volumeName: {facts.spec.get('volumeName')}"],
            ["Restore the volume, or delete the claim and make another one."],
        )


def unbound(facts: Facts) -> Iterator[Finding]:
    if facts.status.get("phase") != "Pending":
        return
    classes = {item["metadata"]["name"]: item for item in facts.others.get("storageclasses", [])}
    name = facts.spec.get("storageClassName")
    asked = ((facts.spec.get("resources") or {}).get("requests") or {}).get("storage", "?")
    if facts.spec.get("volumeName"):
        yield Finding(
            "pvc/named-volume",
            f"It waits for the volume {facts.spec['volumeName']}.",
            [f"spec.volumeName: {facts.spec['volumeName']}"],
            ["Create that volume, large enough and of the same class, or leave volumeName out."],
        )
    elif not name:
        default = [
            key
            for key, item in classes.items()
            if (item["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
        ]
        if name == "" or not default:
            yield from _by_hand(facts, asked, name)
        return
    elif name not in classes:
        yield from _no_class(facts, name, sorted(classes), asked)
    elif classes[name].get("volumeBindingMode") == "WaitForFirstConsumer":
        yield from _waiting(facts, name)
    else:
        yield from _provisioning(facts, classes[name].get("provisioner", ""))


def _by_hand(facts: Facts, asked: str, name: str | None) -> Iterator[Finding]:
    why = "no volume fits it" if name == "" else "it names no class, and no class is the default"
    yield Finding(
        "pvc/no-class",
        f"It is bound to nothing: {why}.",
        [f"it asks for {asked}", *_volumes(facts, "", asked)],
        ["Name a class (kubectl get storageclass), or create a volume for it."],
    )


def _no_class(facts: Facts, name: str, known: list[str], asked: str) -> Iterator[Finding]:
    yield Finding(
        "pvc/class-not-found",
        f"Its class {name} does not exist.",
        [
            f"spec.storageClassName: {name}",
            f"classes there are: {', '.join(known) or 'none'}",
            *_volumes(facts, name, asked),
        ],
        [
            f"Create the claim anew with one of them (its class cannot be changed), or a "
            f"class {name}."
        ],
    )


def _volumes(facts: Facts, name: str, asked: str) -> list[str]:
    """Volumes of the class, and why each does not do."""
    out = []
    for item in facts.others.get("persistentvolumes", []):
        spec, status = item["spec"], item.get("status") or {}
        if (spec.get("storageClassName") or "") != name:
            continue
        why = ""
        if status.get("phase") != "Available":
            why = str(status.get("phase", "Pending"))
        elif asked != "?" and compare(spec["capacity"]["storage"], asked) < 0:
            why = f"too small: {spec['capacity']['storage']}"
        elif {*facts.spec.get("accessModes", ())} - {*spec.get("accessModes", ())}:
            why = f"its access modes are {', '.join(spec.get('accessModes', ()))}"
        out.append(f"volume {item['metadata']['name']}: {why or 'fits by size and modes'}")
    return out[:5]


def _not_made(failed: Object) -> Finding:
    return Finding(
        "pvc/provisioning",
        "Its volume could not be made.",
        [said(failed)],
        ["Mend what the event names; it is tried again."],
    )


def _waiting(facts: Facts, name: str) -> Iterator[Finding]:
    users = users_of(facts)
    failed = facts.event("ProvisioningFailed")
    if failed:
        yield _not_made(failed)
    elif users:
        yield Finding(
            "pvc/waits-for-pod",
            f"It is bound when pod {users[0]} has a node.",
            [f"class {name}: WaitForFirstConsumer", f"used by pod {users[0]}"],
            [f"sampan why pod/{users[0]}"],
        )
    else:
        yield Finding(
            "pvc/no-consumer",
            "It is bound when a pod uses it, and none does yet.",
            [f"class {name}: WaitForFirstConsumer"],
            ["Create the pod."],
            broken=False,
        )


def _provisioning(facts: Facts, provisioner: str) -> Iterator[Finding]:
    failed = facts.event("ProvisioningFailed")
    if failed:
        yield _not_made(failed)
    else:
        yield Finding(
            "pvc/provisioner",
            f"It waits for {provisioner} to make its volume.",
            [said(item) for item in facts.events[-1:]],
            [f"See that the driver {provisioner} runs."],
        )
