"""Pod templates inside workloads: their defaults, and how they fit their selector."""

from __future__ import annotations

from .... import fields
from ....errors import BadRequest, Cause, Object
from ....selectors import from_label_selector, validate_label_selector
from .default import default_spec
from .validate import check_template


def default_template(owner: Object) -> None:
    """Defaults of `owner["template"]`."""
    template = owner.get("template")
    if template and template.get("spec") is not None:
        default_spec(template["spec"])


def check_selected_template(
    spec: Object, path: str, kind: str, out: list[Cause], *, empty: str = "deployment"
) -> None:
    """A workload's spec.selector and spec.template, which must fit each other, and whose pods must
    run for ever. `kind` is how errors call the workload; `empty` is upstream's word for it in the
    error about an empty selector."""
    selector, template = spec.get("selector"), spec.get("template")
    good = True
    if selector is None:
        out.append(fields.required(f"{path}.selector"))
    else:
        problems = validate_label_selector(selector, f"{path}.selector")
        good = not problems
        out += problems
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            why = f"empty selector is invalid for {empty}"
            out.append(fields.invalid(f"{path}.selector", selector, why))
            good = False
    where = f"{path}.template"
    labels = ((template or {}).get("metadata") or {}).get("labels") or {}
    if selector is not None and good and not _matches(selector, labels):
        why = "`selector` does not match template `labels`"
        out.append(fields.invalid(f"{where}.metadata.labels", labels, why))
    check_template(template, where, out)
    check_runs_for_ever((template or {}).get("spec") or {}, f"{where}.spec", kind, out)


def check_runs_for_ever(spec: Object, path: str, kind: str, out: list[Cause]) -> None:
    policy = spec.get("restartPolicy")
    if policy != "Always":
        out.append(fields.not_supported(f"{path}.restartPolicy", policy or "", ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        why = f"activeDeadlineSeconds in {kind} is not Supported"
        out.append(fields.forbidden(f"{path}.activeDeadlineSeconds", why))


def _matches(selector: Object, labels: Object) -> bool:
    try:
        return from_label_selector(selector).matches(labels)
    except BadRequest:
        return False
