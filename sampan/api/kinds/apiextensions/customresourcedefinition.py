"""CustomResourceDefinition (apiextensions.k8s.io/v1)."""

from __future__ import annotations

from ... import fields
from ...descriptor import STATUS_ALONE, Kind
from ...errors import Cause, Object
from ...names import label_1035_problems, subdomain_problems
from ..admissionregistration.webhooks import check_client, default_service
from ..printing import CREATED_COLUMNS, condition_status, created_cells

SCOPES = ("Cluster", "Namespaced")
APPROVED = "api-approved.kubernetes.io"
"""Annotation of definitions in the groups of Kubernetes itself (KEP-1111)."""
REVIEWS = "https://github.com/kubernetes/enhancements/pull/1111"
_NEEDED = f'protected groups must have approval annotation "{APPROVED}"'


def is_protected(group: str) -> bool:
    """Is it a group that only Kubernetes' own API reviewers give out?"""
    return f".{group}".endswith((".k8s.io", ".kubernetes.io"))


def approval(value: str) -> tuple[str, str]:
    """(Approved, Unapproved, Missing or Invalid; why) of the annotation's value."""
    if not value:
        return "Missing", f"{_NEEDED}, see {REVIEWS}"
    if value.startswith("unapproved"):
        return "Unapproved", f'not approved: "{value}"'
    if value.startswith(("http://", "https://")):
        return "Approved", f"approved in {value}"
    kinds = 'either a URL or a reason starting with "unapproved"'
    return "Invalid", f"{_NEEDED} with {kinds}, see {REVIEWS}"


def storage_version(spec: Object) -> str:
    """The version objects are stored in."""
    for version in spec.get("versions") or ():
        if version.get("storage"):
            text: str = version.get("name", "")
            return text
    return ""


def prepare(obj: Object, old: Object | None) -> None:
    """Upstream notes each version that was ever the storage version."""
    spec = obj.setdefault("spec", {})
    version = storage_version(spec)
    if old is None:
        obj["status"] = {"storedVersions": [version] if version else []}
        return
    status = obj.setdefault("status", {})
    stored = status.get("storedVersions") or []
    if version and version not in stored:
        status["storedVersions"] = [*stored, version]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = names.get("kind") or ""
    if kind and not names.get("singular"):
        names["singular"] = kind.lower()
    if kind and not names.get("listKind"):
        names["listKind"] = f"{kind}List"
    conversion = spec.get("conversion")
    if conversion is None:
        spec["conversion"] = {"strategy": "None"}
    else:
        default_service((conversion.get("webhook") or {}).get("clientConfig"))
    status = obj.setdefault("status", {})
    status.setdefault("acceptedNames", {"plural": "", "kind": ""})
    status.setdefault("conditions", [])
    status.setdefault("storedVersions", [])


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    names, group = spec.get("names") or {}, spec.get("group") or ""
    own_name = obj["metadata"].get("name") or ""
    if own_name != f"{names.get('plural', '')}.{group}":
        why = 'must be spec.names.plural+"."+spec.group'
        out.append(fields.invalid("metadata.name", own_name, why))
    problems = subdomain_problems(group)
    if not group:
        out.append(fields.required("spec.group"))
    elif problems:
        out.append(fields.invalid("spec.group", group, ",".join(problems)))
    elif "." not in group:
        why = "should be a domain with at least one dot"
        out.append(fields.invalid("spec.group", group, why))
    scope = spec.get("scope")
    if not scope:
        out.append(fields.required("spec.scope"))
    elif scope not in SCOPES:
        out.append(fields.not_supported("spec.scope", scope, SCOPES))
    _check_versions(spec.get("versions") or [], out)
    for field in ("plural", "singular", "kind", "listKind"):
        if not names.get(field):
            out.append(fields.required(f"spec.names.{field}"))
    _check_names(names, "spec.names", out)
    _check_conversion(spec, out)
    if old is not None:
        _check_update(obj, old, out)
    _check_approval(obj, old, out)
    return out


def _check_approval(obj: Object, old: Object | None, out: list[Cause]) -> None:
    """Groups of Kubernetes itself need a review's address, or a word that there is none."""
    group = (obj["spec"].get("group") or "") if obj.get("spec") else ""
    if not is_protected(group):
        return
    value = (obj["metadata"].get("annotations") or {}).get(APPROVED, "")
    if old is not None and value == (old["metadata"].get("annotations") or {}).get(APPROVED, ""):
        return
    path = f"metadata.annotations[{APPROVED}]"
    state, why = approval(value)
    if state == "Missing":
        out.append(fields.required(path, why))
    elif state == "Invalid":
        out.append(fields.invalid(path, value, why))


def _check_versions(versions: list[Object], out: list[Cause]) -> None:
    # Imported with the first definition that is written.
    from ...structural.versions import check_versions

    path = "spec.versions"
    seen = [version.get("name") or "" for version in versions]
    for position, version in enumerate(versions):
        where = f"{path}[{position}]"
        problems = label_1035_problems(seen[position])
        if problems:
            out.append(fields.invalid(f"{where}.name", seen[position], ",".join(problems)))
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            out.append(fields.required(f"{where}.schema.openAPIV3Schema", "schemas are required"))
    out += check_versions(versions)
    if len(set(seen)) < len(seen):
        out.append(fields.invalid(path, versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        why = "must have exactly one version marked as storage version"
        out.append(fields.invalid(path, versions, why))


def _check_names(names: Object, path: str, out: list[Cause]) -> None:
    for field in ("plural", "singular"):
        value = names.get(field)
        problems = label_1035_problems(value) if value else []
        if problems:
            out.append(fields.invalid(f"{path}.{field}", value, ",".join(problems)))
    for field in ("kind", "listKind"):
        value = names.get(field)
        problems = label_1035_problems(value.lower()) if value else []
        if problems:
            why = "may have mixed case, but should otherwise match: " + ",".join(problems)
            out.append(fields.invalid(f"{path}.{field}", value, why))
    for field in ("shortNames", "categories"):
        for position, value in enumerate(names.get(field) or ()):
            problems = label_1035_problems(value)
            if problems:
                where = f"{path}.{field}[{position}]"
                out.append(fields.invalid(where, value, ",".join(problems)))
    if names.get("kind") and names["kind"] == names.get("listKind"):
        why = "kind and listKind may not be the same"
        out.append(fields.invalid(f"{path}.listKind", names["listKind"], why))


def _check_conversion(spec: Object, out: list[Cause]) -> None:
    conversion, path = spec.get("conversion") or {}, "spec.conversion"
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook")
    if not strategy:
        out.append(fields.required(f"{path}.strategy"))
    elif strategy not in ("None", "Webhook"):
        out.append(fields.not_supported(f"{path}.strategy", strategy, ("None", "Webhook")))
    elif strategy == "None":
        if webhook is not None:
            why = "should not be set when strategy is not set to Webhook"
            out.append(fields.forbidden(f"{path}.webhook", why))
    elif webhook is None:
        why = "required when strategy is set to Webhook"
        out.append(fields.required(f"{path}.webhookClientConfig", why))
    else:
        where = f"{path}.webhookClientConfig"
        check_client(webhook.get("clientConfig") or {}, where, out)
        from ...structural.versions import check_conversion_reviews

        reviews = webhook.get("conversionReviewVersions") or []
        out += check_conversion_reviews(reviews, f"{path}.conversionReviewVersions")
    if spec.get("preserveUnknownFields"):
        why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in " \
              "spec.versions[*].schema instead"  # fmt: skip
        out.append(fields.invalid("spec.preserveUnknownFields", True, why))


def _check_update(obj: Object, old: Object, out: list[Cause]) -> None:
    spec, before = obj["spec"], old.get("spec") or {}
    names, was = spec.get("names") or {}, before.get("names") or {}
    if condition_status(old, "Established") == "True":
        out += fields.unchanged("spec.scope", spec.get("scope"), before.get("scope"))
        out += fields.unchanged("spec.names.kind", names.get("kind"), was.get("kind"))
    out += fields.unchanged("spec.group", spec.get("group"), before.get("group"))
    out += fields.unchanged("spec.names.plural", names.get("plural"), was.get("plural"))
    known = {version.get("name") for version in spec.get("versions") or ()}
    stored = (obj.get("status") or {}).get("storedVersions") or []
    for position, version in enumerate(stored):
        if version not in known:
            path = f"status.storedVersions[{position}]"
            out.append(fields.invalid(path, version, "must appear in spec.versions"))


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    _check_names(status.get("acceptedNames") or {}, "status.acceptedNames", out)
    return out


KIND = Kind(
    group="apiextensions.k8s.io",
    version="v1",
    kind="CustomResourceDefinition",
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    storage="apiextensions.k8s.io/customresourcedefinitions",
    default=default,
    prepare=prepare,
    validate=validate,
    validate_status=validate_status,
    columns=CREATED_COLUMNS,
    cells=created_cells,
    status_keeps=STATUS_ALONE,
)
