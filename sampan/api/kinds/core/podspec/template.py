"""Pod templates inside workloads: their defaults, and how they fit their selector."""

from __future__ import annotations

from typing import Any

from .... import fields
from ....errors import BadRequest, Cause, Object
from ....selectors import from_label_selector, validate_label_selector
from .default import default_spec
from .validate import check_template


def default_template(owner: Object) -> None:
    """Defaults of `owner["template"]`, which is there even when it was not said: to Go it is a
    struct."""
    template = owner.get("template")
    if template is None:
        template = owner["template"] = {}
    spec = template.get("spec")
    if spec is None:
        spec = template["spec"] = {}
    default_spec(spec)


def check_selected_template(
    spec: Object, path: str, kind: str, out: list[Cause], *, empty: str = "deployment"
) -> None:
    """A workload's spec.selector and spec.template, which must fit each other, and whose pods must
    run for ever. `kind` is how errors call the workload; `empty` is upstream's word for it in the
    error about an empty selector. No selector selects nothing, and so does not fit either."""
    selector, template = spec.get("selector"), spec.get("template")
    where = f"{path}.selector"
    problems = [] if selector is None else validate_label_selector(selector, where)
    out += problems
    if selector is None and kind != "DaemonSet":
        out.append(fields.required(where))
    is_empty = selector is not None and not (
        selector.get("matchLabels") or selector.get("matchExpressions")
    )
    if is_empty:
        out.append(fields.invalid(where, selector, f"empty selector is invalid for {empty}"))
    where = f"{path}.template"
    labels = ((template or {}).get("metadata") or {}).get("labels")
    if problems and kind != "DaemonSet":
        why = "invalid label selector" if kind == "ReplicaSet" else ""
        out.append(fields.invalid(f"{path}.selector", selector, why))
        return
    if not problems and not is_empty and not _matches(selector, labels or {}):
        why = "`selector` does not match template `labels`"
        out.append(fields.invalid(f"{where}.metadata.labels", _shown(labels), why))
    check_template(template, where, out)
    check_runs_for_ever((template or {}).get("spec") or {}, f"{where}.spec", kind, out)


def check_runs_for_ever(spec: Object, path: str, kind: str, out: list[Cause]) -> None:
    policy = spec.get("restartPolicy")
    if policy != "Always":
        out.append(fields.not_supported(f"{path}.restartPolicy", policy or "", ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        why = f"activeDeadlineSeconds in {kind} is not Supported"
        out.append(fields.forbidden(f"{path}.activeDeadlineSeconds", why))


def _shown(labels: Object | None) -> Any:
    return dict(sorted(labels.items())) if labels else fields.NIL


def _matches(selector: Object | None, labels: Object) -> bool:
    if selector is None:
        return False
    try:
        return from_label_selector(selector).matches(labels)
    except BadRequest:
        return False
