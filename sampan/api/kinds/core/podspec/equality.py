"""When two objects mean the same, and what differs when they do not."""

from __future__ import annotations

from typing import Any

POINTERS = frozenset({
    "automountServiceAccountToken", "enableServiceLinks", "shareProcessNamespace", "hostUsers",
    "setHostnameAsFQDN", "runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "privileged",
    "readOnlyRootFilesystem", "allowPrivilegeEscalation", "optional", "defaultMode", "mode",
    "terminationGracePeriodSeconds", "activeDeadlineSeconds", "tolerationSeconds", "priority",
    "minDomains", "storageClassName", "volumeMode", "volumeAttributesClassName",
})  # fmt: skip
"""Fields whose zero is not the same as their absence."""


def same(left: Any, right: Any) -> bool:
    """Upstream's semantic deep equality: absent, null, empty and zero values are equal, but for
    fields that are pointers upstream."""
    if left == right:
        return True
    if isinstance(left, dict) and isinstance(right, dict):
        return all(
            _same_field(key, left.get(key), right.get(key)) for key in left.keys() | right.keys()
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return not left and not right


def _same_field(key: str, left: Any, right: Any) -> bool:
    if key in POINTERS:
        return bool(left == right)
    if (left is None or right is None) and isinstance(left or right, dict):
        return not (left or right)
    return same(left, right)


def difference(old: Any, new: Any, kind: str) -> str:
    """What changed, a line per value, in the manner of go-cmp's reports."""
    lines = [f"  {kind}{{"]
    _compare(old, new, "  \t", lines)
    return "\n".join([*lines, "  }"]) + "\n"


def _compare(old: Any, new: Any, indent: str, lines: list[str]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [
            (f"{key}: ", old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())
        ]
    else:
        size = max(len(old), len(new))
        pairs = [
            ("", old[at] if at < len(old) else None, new[at] if at < len(new) else None)
            for at in range(size)
        ]
    skipped = False
    for label, before, after in pairs:
        if same(before, after):
            if not skipped:
                lines.append(f"{indent}... // identical fields")
            skipped = True
            continue
        skipped = False
        nested = type(before) is type(after) and isinstance(before, dict | list)
        if nested:
            lines.append(f"{indent}{label}{{")
            _compare(before, after, indent + "\t", lines)
            lines.append(f"{indent}}},")
            continue
        rest = indent[1:]
        if before is not None:
            lines.append(f"-{rest}{label}{_shown(before)},")
        if after is not None:
            lines.append(f"+{rest}{label}{_shown(after)},")


def _shown(value: Any) -> str:
    from .... import fields

    text: str = fields.show(value)
    return text
