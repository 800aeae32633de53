"""The status of ValidatingAdmissionPolicies: what the type checker finds wrong with expressions.

CEL is imported with the first policy. Kinds that are unknown now are left out; a policy is checked
again when its spec changes, or when the definition of a custom resource that it names does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.resources import builtin, resource

from .runtime.controller import Context, Controller
from .runtime.queue import Request
from .runtime.status import write_status

if TYPE_CHECKING:
    from sampan.api.cel.typechecking import Known
    from sampan.api.cel.types import Type

GROUP = "admissionregistration.k8s.io"


class PolicyStatusController(Controller):
    """See the module."""

    name = "validatingadmissionpolicy-status"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("validatingadmissionpolicies", GROUP)
        self.definitions = resource("customresourcedefinitions", "apiextensions.k8s.io")
        self.policies = self.informer(self.resource)
        self.policies.on_change(self._changed)
        self.customs = self.informer(self.definitions)
        self.customs.on_change(self._definition_changed)
        self._stale: set[str] = set()
        """Policies whose status was made by definitions of before."""

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and not is_checked(new):
            self.queue.add(Request("", new["metadata"]["name"]))

    def _definition_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new if new is not None else old
        if obj is None or (old is not None and new is not None and old["spec"] == new["spec"]):
            return
        for policy in self.policies.list():
            name = policy["metadata"]["name"]
            # What was not checked yet will be checked by what is now.
            if is_checked(policy) and is_about(policy["spec"], obj["spec"]):
                self._stale.add(name)
                self.queue.add(Request("", name))

    async def reconcile(self, request: Request) -> None:
        policy = self.policies.get("", request.name)
        stale = request.name in self._stale
        self._stale.discard(request.name)
        if policy is None or (is_checked(policy) and not stale):
            return
        try:
            await self._check(policy)
        except BaseException:
            if stale:
                self._stale.add(request.name)
            raise

    async def _check(self, policy: Object) -> None:
        from sampan.api.cel.typechecking import MAX_KINDS, expression_warnings, rules_of

        spec = policy["spec"]
        kinds = []
        for group, version, plural in rules_of(spec)[:MAX_KINDS]:
            found = self._known(group, version, plural=plural)
            if found is not None:
                kinds.append(found)
        params: Type | None = None
        if spec.get("paramKind") is not None:
            group, _, version = spec["paramKind"]["apiVersion"].rpartition("/")
            known = self._known(group, version, kind=spec["paramKind"]["kind"])
            params = None if known is None else known.type
        warnings = expression_warnings(spec, kinds, params)
        status = {
            **(policy.get("status") or {}),
            "observedGeneration": policy["metadata"].get("generation", 0),
            "typeChecking": {"expressionWarnings": warnings} if warnings else {},
        }
        await write_status(self.client, self.resource, policy, status)

    def _known(self, group: str, version: str, *, plural: str = "", kind: str = "") -> Known | None:
        """The type of a kind by its plural or name."""
        from sampan.api.cel.definitions import type_of_definition
        from sampan.api.cel.typechecking import Known, label_of

        for item in builtin():
            if (item.group, item.version) == (group, version) and (
                item.plural == plural or item.kind == kind
            ):
                label = label_of(group, version, item.kind)
                return Known(label, type_of_definition(item.definition))
        return self._custom(group, version, plural, kind)

    def _custom(self, group: str, version: str, plural: str, kind: str) -> Known | None:
        from sampan.api.cel.schemas import type_of_schema
        from sampan.api.cel.typechecking import Known, label_of

        if plural:
            found = self.customs.get("", f"{plural}.{group}")
        else:
            found = next(
                (item for item in self.customs.list() if _has_kind(item, group, kind)), None
            )
        if found is None:
            return None
        spec = found["spec"]
        schema = next(
            (
                (item.get("schema") or {}).get("openAPIV3Schema")
                for item in spec.get("versions") or ()
                if item.get("name") == version
            ),
            None,
        )
        type_ = None if schema is None else type_of_schema(schema, spec["names"]["kind"], root=True)
        if type_ is None:
            return None
        return Known(label_of(group, version, spec["names"]["kind"]), type_)


def is_checked(policy: Object) -> bool:
    """Is the status about the spec as it is?"""
    observed = (policy.get("status") or {}).get("observedGeneration")
    return observed is not None and observed == policy["metadata"].get("generation")


def is_about(spec: Object, definition: Object) -> bool:
    """Does a policy name the resource of a definition, as its object or its parameter?"""
    group, plural = definition.get("group"), (definition.get("names") or {}).get("plural")
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        if group in (rule.get("apiGroups") or ()) and plural in (rule.get("resources") or ()):
            return True
    kind = spec.get("paramKind") or {}
    return str(kind.get("apiVersion") or "").partition("/")[0] == group


def _has_kind(definition: Object, group: str, kind: str) -> bool:
    spec = definition["spec"]
    return bool(spec.get("group") == group and spec["names"].get("kind") == kind)
