"""The status of ValidatingAdmissionPolicies: what the type checker finds wrong with expressions.

CEL is imported with the first policy. Kinds that are unknown now are left out; the policy is
checked again when its spec changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import NotFound, Object
from sampan.api.resources import builtin, resource

from .runtime.controller import Context, Controller
from .runtime.queue import Request

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

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and not is_checked(new):
            self.queue.add(Request("", new["metadata"]["name"]))

    async def reconcile(self, request: Request) -> None:
        policy = self.policies.get("", request.name)
        if policy is None or is_checked(policy):
            return
        from sampan.api.cel.typechecking import MAX_KINDS, expression_warnings, rules_of

        spec = policy["spec"]
        kinds = []
        for group, version, plural in rules_of(spec)[:MAX_KINDS]:
            found = await self._known(group, version, plural=plural)
            if found is not None:
                kinds.append(found)
        params: Type | None = None
        if spec.get("paramKind") is not None:
            group, _, version = spec["paramKind"]["apiVersion"].rpartition("/")
            known = await self._known(group, version, kind=spec["paramKind"]["kind"])
            params = None if known is None else known.type
        warnings = expression_warnings(spec, kinds, params)
        status = {
            **(policy.get("status") or {}),
            "observedGeneration": policy["metadata"].get("generation", 0),
            "typeChecking": {"expressionWarnings": warnings} if warnings else {},
        }
        new = {**policy, "status": status}
        await self.client.update(self.resource, new, subresource="status")

    async def _known(
        self, group: str, version: str, *, plural: str = "", kind: str = ""
    ) -> Known | None:
        """The type of a kind by its plural or name."""
        from sampan.api.cel.definitions import type_of_definition
        from sampan.api.cel.typechecking import Known, label_of

        for item in builtin():
            if (item.group, item.version) == (group, version) and (
                item.plural == plural or item.kind == kind
            ):
                label = label_of(group, version, item.kind)
                return Known(label, type_of_definition(item.definition))
        return await self._custom(group, version, plural) if plural else None

    async def _custom(self, group: str, version: str, plural: str) -> Known | None:
        from sampan.api.cel.schemas import type_of_schema
        from sampan.api.cel.typechecking import Known, label_of

        try:
            found = await self.client.get(self.definitions, f"{plural}.{group}")
        except NotFound:
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
