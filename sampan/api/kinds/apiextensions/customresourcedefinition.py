"""CustomResourceDefinition (apiextensions.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence

from ... import fields
from ...descriptor import STATUS_ALONE, Kind
from ...errors import Cause, Object
from ...names import label_1035_problems, subdomain_problems
from ..admissionregistration.clients import bundle_problem, check_client, default_service
from ..formats import check_supported
from ..printing import CREATED_COLUMNS, condition_status, created_cells

SCOPES = ("Cluster", "Namespaced")
STRATEGIES = ("None", "Webhook")
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
    spec, status = obj["spec"], obj.get("status") or {}
    if old is None or spec != old.get("spec"):
        _check_spec(obj, old, out)
    _check_names(status.get("acceptedNames") or {}, "status.acceptedNames", out)
    _check_stored(status.get("storedVersions") or [], spec.get("versions") or (), out)
    _check_approval(obj, old, out)
    before = (old or {}).get("spec") or {}
    if spec.get("preserveUnknownFields") and not before.get("preserveUnknownFields"):
        why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in " \
              "spec.versions[*].schema instead"  # fmt: skip
        out.append(fields.invalid("spec.preserveUnknownFields", True, why))
    return out


def _check_spec(obj: Object, old: Object | None, out: list[Cause]) -> None:
    # Imported with the first definition that is written.
    from ...structural.versions import check_shared, check_versions

    spec = obj["spec"]
    names, group = spec.get("names") or {}, spec.get("group") or ""
    own_name, versions = obj["metadata"].get("name") or "", spec.get("versions") or []
    if old is None and own_name != f"{names.get('plural', '')}.{group}":
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
    check_supported(spec.get("scope"), SCOPES, "spec.scope", out)
    for position, version in enumerate(versions):
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            where = f"spec.versions[{position}].schema.openAPIV3Schema"
            out.append(fields.required(where, "schemas are required"))
    out += check_versions(versions)
    _check_set(versions, "spec.versions", out)
    for field in ("plural", "singular", "kind", "listKind"):
        if not names.get(field):
            out.append(fields.required(f"spec.names.{field}"))
    _check_names(names, "spec.names", out)
    out += check_shared(versions)
    _check_conversion(spec, old, out)
    if old is not None:
        _check_update(spec, old, out)


def _check_set(versions: list[Object], path: str, out: list[Cause]) -> None:
    """The versions together."""
    if len({version.get("name") for version in versions}) < len(versions):
        out.append(fields.invalid(path, versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        why = "must have exactly one version marked as storage version"
        out.append(fields.invalid(path, versions or fields.NIL, why))


def _check_stored(stored: list[str], versions: Sequence[Object], out: list[Cause]) -> None:
    """Every version that objects may lie in the store in is still there."""
    path = "status.storedVersions"
    if not stored:
        out.append(fields.invalid(path, fields.NIL, "must have at least one stored version"))
        return
    for version in versions:
        if version.get("storage") and version.get("name") not in stored:
            why = f"must have the storage version {version.get('name', '')}"
            out.append(fields.invalid(path, stored, why))
    known = {version.get("name") for version in versions}
    for position, name in enumerate(stored):
        if name not in known:
            why = (
                f"missing from spec.versions; {name} was previously a storage version, and must "
                f"remain in spec.versions until a storage migration ensures no data remains "
                f"persisted in {name} and removes {name} from status.storedVersions"
            )
            out.append(fields.invalid(f"{path}[{position}]", name, why))


def _check_approval(obj: Object, old: Object | None, out: list[Cause]) -> None:
    """Groups of Kubernetes itself need a review's address, or a word that there is none."""
    group = (obj["spec"].get("group") or "") if obj.get("spec") else ""
    if not is_protected(group):
        return
    value = (obj["metadata"].get("annotations") or {}).get(APPROVED, "")
    path = f"metadata.annotations[{APPROVED}]"
    state, why = approval(value)
    if old is not None:
        before = (old["metadata"].get("annotations") or {}).get(APPROVED, "")
        if approval(before)[0] == state:
            return
    if state == "Missing":
        out.append(fields.required(path, why))
    elif state == "Invalid":
        out.append(fields.invalid(path, value, why))


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


def _check_conversion(spec: Object, old: Object | None, out: list[Cause]) -> None:
    conversion, path = spec.get("conversion") or {}, "spec.conversion"
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook") or {}
    config, reviews = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    if strategy and strategy != "None" and spec.get("preserveUnknownFields"):
        why = "must be None if spec.preserveUnknownFields is true"
        out.append(fields.invalid(f"{path}.strategy", strategy, why))
    check_supported(strategy, STRATEGIES, f"{path}.strategy", out)
    # Upstream's internal form has the webhook's fields in the conversion itself.
    where = f"{path}.webhookClientConfig"
    if strategy != "Webhook":
        why = "should not be set when strategy is not set to Webhook"
        if config is not None:
            out.append(fields.forbidden(where, why))
        if reviews:
            out.append(fields.forbidden(f"{path}.conversionReviewVersions", why))
        return
    if config is None:
        out.append(fields.required(where, "required when strategy is set to Webhook"))
    else:
        check_client(config, where, out)
        _check_bundle(config.get("caBundle"), old, f"{where}.caBundle", out)
    from ...structural.versions import check_conversion_reviews

    out += check_conversion_reviews(reviews, f"{path}.conversionReviewVersions")


def _check_bundle(bundle: str | None, old: Object | None, path: str, out: list[Cause]) -> None:
    """A bundle that worked may not be replaced by one that does not. Before a definition is
    established there is nothing to break: injectors fill the bundle in."""
    if not bundle or old is None or condition_status(old, "Established") != "True":
        return
    conversion = (old.get("spec") or {}).get("conversion") or {}
    before = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("caBundle")
    if before and bundle_problem(before):
        return
    why = bundle_problem(bundle)
    if why:
        out.append(fields.invalid(path, bundle, why))


def _check_update(spec: Object, old: Object, out: list[Cause]) -> None:
    before = old.get("spec") or {}
    names, was = spec.get("names") or {}, before.get("names") or {}
    if condition_status(old, "Established") == "True":
        out += fields.unchanged("spec.scope", spec.get("scope"), before.get("scope"))
        out += fields.unchanged("spec.names.kind", names.get("kind"), was.get("kind"))
    out += fields.unchanged("spec.group", spec.get("group"), before.get("group"))
    out += fields.unchanged("spec.names.plural", names.get("plural"), was.get("plural"))


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    _check_names(status.get("acceptedNames") or {}, "status.acceptedNames", out)
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    """Formats of strings that the definition newly uses and that nothing checks."""
    versions = obj["spec"].get("versions") or ()
    before = (old or {}).get("spec", {}).get("versions") or ()
    if versions == before:
        return []
    from ...structural.versions import unknown_formats

    known = unknown_formats(before)
    return [
        f"unrecognized format {fields.quote(form)}"
        for form in unknown_formats(versions)
        if form not in known
    ]


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
    warnings=warnings,
    columns=CREATED_COLUMNS,
    cells=created_cells,
    status_keeps=STATUS_ALONE,
)
