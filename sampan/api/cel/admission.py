"""What expressions of admission may refer to: policies, and match conditions of webhooks.

`object`, `oldObject` and `params` are dynamic when they run; the type checker of policies gives
them the types of the kinds a policy is about (k8s.io/apiserver admission/plugin/cel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from .environment import Environment, kubernetes
from .errors import CompileError
from .library.authorization import AUTHORIZER, RESOURCE_CHECK
from .patches import OBJECTS, patch_functions
from .program import Program, compile
from .types import (
    BOOL,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    Field,
    ObjectType,
    Type,
    list_of,
    map_of,
)

REQUEST_RESOURCE = "authorizer.requestResource"
VARIABLES = "variables"
MESSAGE_BYTES = 5 * 1024
"""The longest message an expression may make (MaxEvaluatedMessageExpressionSizeBytes)."""


class Unfit(Exception):
    """An expression that cannot be used; `str` is upstream's detail of the field error."""


def _object(name: str, /, **fields: Type) -> ObjectType:
    return ObjectType(name, {key: Field(type_, key) for key, type_ in fields.items()})


_STRINGS = list_of(STRING)
_KIND = _object("kubernetes.GroupVersionKind", group=STRING, version=STRING, kind=STRING)
_RESOURCE = _object(
    "kubernetes.GroupVersionResource", group=STRING, version=STRING, resource=STRING
)
_USER = _object(
    "kubernetes.UserInfo",
    username=STRING,
    uid=STRING,
    groups=_STRINGS,
    extra=map_of(STRING, _STRINGS),
)
REQUEST = _object(
    "kubernetes.AdmissionRequest",
    kind=_KIND,
    resource=_RESOURCE,
    subResource=STRING,
    requestKind=_KIND,
    requestResource=_RESOURCE,
    requestSubResource=STRING,
    name=STRING,
    namespace=STRING,
    operation=STRING,
    userInfo=_USER,
    dryRun=BOOL,
    options=DYN,
)
_META = _object(
    "kubernetes.NamespaceMetadata",
    name=STRING,
    generateName=STRING,
    namespace=STRING,
    labels=map_of(STRING, STRING),
    annotations=map_of(STRING, STRING),
    UID=STRING,
    creationTimestamp=TIMESTAMP,
    deletionGracePeriodSeconds=INT,
    deletionTimestamp=TIMESTAMP,
    generation=INT,
    resourceVersion=STRING,
    finalizers=_STRINGS,
)
_CONDITION = _object(
    "kubernetes.NamespaceCondition",
    status=STRING,
    type=STRING,
    lastTransitionTime=TIMESTAMP,
    message=STRING,
    reason=STRING,
)
NAMESPACE = _object(
    "kubernetes.Namespace",
    metadata=_META,
    spec=_object("kubernetes.NamespaceSpec", finalizers=_STRINGS),
    status=_object("kubernetes.NamespaceStatus", conditions=list_of(_CONDITION), phase=STRING),
)
BOOLEAN: Sequence[Type] = (BOOL,)
TEXT: Sequence[Type] = (STRING,)
TEXT_OR_NULL: Sequence[Type] = (STRING, NULL)
ANYTHING: Sequence[Type] = ()


@cache
def environment(*, params: bool, authorizer: bool, patches: bool = False) -> Environment:
    """The environment of a policy's or webhook's expressions; one object per combination."""
    variables: dict[str, Type] = {
        "object": DYN,
        "oldObject": DYN,
        "namespaceObject": NAMESPACE,
        "request": REQUEST,
    }
    if params:
        variables["params"] = DYN
    if authorizer:
        variables |= {"authorizer": AUTHORIZER, REQUEST_RESOURCE: RESOURCE_CHECK}
    base = kubernetes().extend(variables)
    return base.extend(objects=OBJECTS, functions=patch_functions()) if patches else base


def with_variables(base: Environment, types: Mapping[str, Type]) -> Environment:
    """The environment with `variables.name` of these types."""
    fields = {name: Field(type_, name) for name, type_ in types.items()}
    return base.extend({VARIABLES: ObjectType("kubernetes.variables", fields)})


def fit(expression: str, base: Environment, results: Sequence[Type] = BOOLEAN) -> Program:
    """Compile, and see that it gives one of `results` (none: anything). Raises Unfit."""
    try:
        program = compile(expression, base)
    except CompileError as error:
        raise Unfit(f"compilation failed: {error}") from None
    if results and program.type not in results:
        got = program.type
        if len(results) == 1:
            raise Unfit(f"must evaluate to {results[0]} but got {got}")
        raise Unfit(f"must evaluate to one of [{' '.join(map(str, results))}] but got {got}")
    return program


def variable_types(
    base: Environment, variables: Sequence[Mapping[str, Any]]
) -> tuple[Environment, dict[str, Program | Unfit]]:
    """Compile composited variables in order; each sees those before it. Gives the environment of
    what follows, and each variable's program or why there is none."""
    types: dict[str, Type] = {}
    programs: dict[str, Program | Unfit] = {}
    current = with_variables(base, types)
    for item in variables:
        name = str(item.get("name") or "")
        try:
            program = fit(str(item.get("expression") or ""), current, ANYTHING)
        except Unfit as error:
            programs[name] = error
            types[name] = DYN
        else:
            programs[name] = program
            types[name] = program.type
        current = with_variables(base, types)
    return current, programs
