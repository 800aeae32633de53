"""What an update may change of a pod's spec, and its subresources (ValidatePodUpdate)."""

from __future__ import annotations

from collections.abc import Sequence

from .... import fields
from ....errors import Cause, Object
from ...formats import MAX_INT32
from .equality import difference, same
from .scheduling import REQUIRED_TERMS, check_tolerations

UPDATABLE = ",".join((
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
))  # fmt: skip


def check_update(new: Object, old: Object, out: list[Cause]) -> None:
    """`new` and `old` are specs that differ."""
    for name in ("containers", "initContainers"):
        if len(new.get(name) or ()) != len(old.get(name) or ()):
            why = "pod updates may not add or remove containers"
            out.append(fields.forbidden(f"spec.{name}", why))
            return
    if not _check_deadline(new, old, out):
        return
    _check_added_tolerations(new.get("tolerations") or (), old.get("tolerations") or (), out)
    _check_removed_gates(new.get("schedulingGates") or (), old.get("schedulingGates") or (), out)
    munged = _munged(new, old, out)
    if not same(munged, old):
        tail = difference(old, munged, "core.PodSpec")
        why = f"pod updates may not change fields other than {UPDATABLE}\n{tail}"
        out.append(fields.forbidden("spec", why))


def _check_deadline(new: Object, old: Object, out: list[Cause]) -> bool:
    path = "spec.activeDeadlineSeconds"
    now, was = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if now is None:
        if was is not None:
            why = "must not update from a positive integer to nil value"
            out.append(fields.invalid(path, None, why))
        return True
    if not 0 <= now <= MAX_INT32:
        out.append(fields.invalid(path, now, f"must be between 0 and {MAX_INT32}, inclusive"))
        return False
    if was is not None and was < now:
        out.append(fields.invalid(path, now, "must be less than or equal to previous value"))
        return False
    return True


def _check_added_tolerations(
    new: Sequence[Object], old: Sequence[Object], out: list[Cause]
) -> None:
    path = "spec.tolerations"
    left = [_without(item, "tolerationSeconds") for item in new]
    if any(_without(item, "tolerationSeconds") not in left for item in old):
        why = "existing toleration can not be modified except its tolerationSeconds"
        out.append(fields.forbidden(path, why))
    elif new != old:
        check_tolerations(new, path, out)


def _check_removed_gates(new: Sequence[Object], old: Sequence[Object], out: list[Cause]) -> None:
    known = {gate.get("name") for gate in old}
    for position, gate in enumerate(new):
        if gate.get("name") not in known:
            why = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            out.append(fields.forbidden(f"spec.schedulingGates[{position}].name", why))


def _without(item: Object, *names: str) -> Object:
    return {key: value for key, value in item.items() if key not in names}


def _munged(new: Object, old: Object, out: list[Cause]) -> Object:
    """`new` with what may change put back; the rest must then equal `old`."""
    spec = _without(new, "activeDeadlineSeconds", "schedulingGates", "tolerations")
    for name in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        if name in old:
            spec[name] = old[name]
    for name in ("containers", "initContainers"):
        if new.get(name):
            pairs = zip(new[name], old[name], strict=True)
            spec[name] = [{**item, "image": was.get("image")} for item, was in pairs]
    grace = old.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and new.get("terminationGracePeriodSeconds") == 1:
        spec["terminationGracePeriodSeconds"] = grace
    if old.get("schedulingGates"):
        _munge_gated(spec, old, out)
    return spec


def _munge_gated(spec: Object, old: Object, out: list[Cause]) -> None:
    """A gated pod may still narrow where it can go (KEP-3838)."""
    now, was = spec.get("nodeSelector") or {}, old.get("nodeSelector") or {}
    if now != was:
        if any(now.get(key) != value for key, value in was.items()):
            why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            out.append(fields.invalid("spec.nodeSelector", now, why))
        spec.pop("nodeSelector", None)
        if "nodeSelector" in old:
            spec["nodeSelector"] = old["nodeSelector"]
    affinity = dict(spec.get("affinity") or {})
    before = old.get("affinity") or {}
    if not same(affinity.get("nodeAffinity"), before.get("nodeAffinity")):
        _check_terms(affinity.get("nodeAffinity") or {}, before.get("nodeAffinity") or {}, out)
        affinity.pop("nodeAffinity", None)
        if "nodeAffinity" in before:
            affinity["nodeAffinity"] = before["nodeAffinity"]
        spec.pop("affinity", None)
        if affinity or "affinity" in old:
            spec["affinity"] = affinity


def _check_terms(new: Object, old: Object, out: list[Cause]) -> None:
    """Required terms of a gated pod only get narrower."""
    path = f"spec.affinity.nodeAffinity.{REQUIRED_TERMS}.nodeSelectorTerms"
    terms = (old.get(REQUIRED_TERMS) or {}).get("nodeSelectorTerms") or ()
    changed = (new.get(REQUIRED_TERMS) or {}).get("nodeSelectorTerms") or ()
    if not terms:
        return
    if len(changed) != len(terms):
        why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        out.append(fields.invalid(path, changed or None, why))
        return
    for position, (term, was) in enumerate(zip(changed, terms, strict=True)):
        if not _only_adds(term, was):
            why = "only additions are allowed (no mutations or deletions)"
            out.append(fields.invalid(f"{path}[{position}]", term, why))


def _only_adds(term: Object, was: Object) -> bool:
    kinds = ("matchExpressions", "matchFields")
    if not any(was.get(kind) for kind in kinds):
        return not any(term.get(kind) for kind in kinds)
    for kind in kinds:
        known = was.get(kind) or []
        if not same((term.get(kind) or [])[: len(known)], known):
            return False
    return True


def check_ephemeral_update(new: Object, old: Object, out: list[Cause]) -> None:
    """/ephemeralcontainers only adds."""
    path = "spec.ephemeralContainers"
    by_name = {item.get("name"): item for item in new.get("ephemeralContainers") or ()}
    for was in old.get("ephemeralContainers") or ():
        name = was.get("name")
        if name not in by_name:
            why = f'existing ephemeral containers "{name}" may not be removed\n'
            out.append(fields.forbidden(path, why))
        elif not same(by_name[name], was):
            tail = difference(was, by_name[name], "core.EphemeralContainer")
            why = f'existing ephemeral containers "{name}" may not be changed\n{tail}'
            out.append(fields.forbidden(path, why))
