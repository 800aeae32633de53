"""Field errors of custom resource definitions and API services, in upstream's words."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from sampan.api.descriptor import Kind
from sampan.api.resources import resource

CRD = resource("customresourcedefinitions", "apiextensions.k8s.io").rules
SERVICE = resource("apiservices", "apiregistration.k8s.io").rules
SCHEMA: dict[str, Any] = {"type": "object"}
PLURAL = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
OLDER = {"name": "v1beta1", "served": True, "schema": {"openAPIV3Schema": SCHEMA}}
V = "spec.validation.openAPIV3Schema"


def definition(schema: Any = SCHEMA, *more: Any, names: Any = None, **spec: Any) -> dict[str, Any]:
    version = {"name": "v1", "served": True, "storage": True} | spec.pop("version", {})
    if schema is not None:
        version["schema"] = {"openAPIV3Schema": schema}
    obj = {
        "metadata": {"name": "as.e.com", "annotations": spec.pop("annotations", {})},
        "spec": {
            "group": "e.com",
            "scope": "Namespaced",
            "names": {"plural": "as", "kind": "A", **(names or {})},
            "versions": [version, *more],
            **spec,
        },
    }
    obj = copy.deepcopy(obj)
    assert CRD.prepare is not None
    CRD.prepare(obj, None)
    CRD.default(obj)
    return obj


def errors(obj: dict[str, Any], old: dict[str, Any] | None = None, rules: Kind = CRD) -> list[str]:
    return [str(cause) for cause in rules.validate(obj, old)]


def props(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


SCHEMAS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, [f"{V}.type: Required value: must not be empty at the root"]),
    (
        {**SCHEMA, "nullable": True},
        [f"{V}.nullable: Forbidden: nullable cannot be true at the root"],
    ),
    (
        props(a={"type": "text"}),
        [f'{V}.properties[a].type: Unsupported value: "text": supported values: "array", '
         '"boolean", "integer", "number", "object", "string"'],
    ),
    (
        props(a={"type": "null"}),
        [f'{V}.properties[a].type: Unsupported value: "null": supported values: "array", '
         '"boolean", "integer", "number", "object", "string"',
         f"{V}.properties[a].type: Forbidden: type cannot be set to null, use nullable as an "
         "alternative"],
    ),
    (
        props(kind={"type": "string", "default": "A"}),
        [f"{V}.properties[kind].default: Forbidden: must not be set in top-level kind"],
    ),
    (
        props(a={"type": "array"}),
        [f"{V}.properties[a].items: Required value: must be specified"],
    ),
    (
        props(a={"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"}),
        [f'{V}.properties[a].x-kubernetes-list-type: Unsupported value: "bag": supported values: '
         '"atomic", "set", "map"'],
    ),
    (
        props(a={"type": "array", "x-kubernetes-list-type": "map",
                 "x-kubernetes-list-map-keys": ["k", "l", "k"],
                 "items": props(k={"type": "object"})}),
        [f'{V}.properties[a].items.properties[k].type: Invalid value: "object": must be a scalar '
         "type if parent array's x-kubernetes-list-type is map",
         f'{V}.properties[a].x-kubernetes-list-map-keys: Invalid value: ["k","l","k"]: entries '
         "must all be names of item properties",
         f'{V}.properties[a].items.properties[k].type: Invalid value: "object": must be a scalar '
         "type if parent array's x-kubernetes-list-type is map",
         f'{V}.properties[a].x-kubernetes-list-map-keys: Invalid value: ["k","l","k"]: must not '
         "contain duplicate entries",
         *[f"{V}.properties[a].items.properties[k].default: Required value: this property is in "
           "x-kubernetes-list-map-keys, so it must have a default or be a required property"] * 2],
    ),
    (
        props(a={"type": "object", "additionalProperties": {"type": "string"},
                 "properties": {"b": {"type": "string"}}}),
        [f"{V}.properties[a].additionalProperties: Forbidden: additionalProperties and properties "
         "are mutual exclusive"],
    ),
    (
        props(a={"type": "string", "uniqueItems": True}),
        [f"{V}.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the "
         "runtime complexity becomes quadratic"],
    ),
    (
        {**props(a={"type": "string"}),
         "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".b"}]},
        [f'{V}.x-kubernetes-validations[0].fieldPath: Invalid value: ".b": fieldPath must be a '
         "valid path"],
    ),
    (
        props(a={"type": "array", "maxItems": 2, "items": {
            "type": "string", "maxLength": 4,
            "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}),
        [f"{V}.properties[a].items.x-kubernetes-validations[0].rule: Invalid value: "
         '"self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema '
         f"within {V}.properties[a]"],
    ),
    (
        {**props(a={"type": "string", "maxLength": 4,
                    "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}),
         "x-kubernetes-map-type": "atomic"},
        [f"{V}.properties[a].x-kubernetes-validations[0].rule: Invalid value: "
         '"self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema '
         f"within {V}"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "expected"), SCHEMAS)
def test_schemas(schema: dict[str, Any], expected: list[str]) -> None:
    assert errors(definition(schema)) == expected


WEBHOOK = {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {
    "url": "https://e.com"}}}  # fmt: skip
CLIENT = "spec.conversion.webhookClientConfig"


def converted(**client: Any) -> dict[str, Any]:
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": client}
    return {"conversion": {"strategy": "Webhook", "webhook": webhook}}


SPECS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"scope": ""}, ["spec.scope: Required value"]),
    (
        {"scope": "Global"},
        ['spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"'],
    ),
    (
        {"names": {"shortNames": ["A"], "listKind": "A"}},
        [f'spec.names.shortNames[0]: Invalid value: "A": {PLURAL}',
         'spec.names.listKind: Invalid value: "A": kind and listKind may not be the same'],
    ),
    (
        {"version": {"deprecationWarning": ""}},
        ['spec.versions[0].deprecationWarning: Invalid value: "": can only be set for deprecated '
         "versions"],
    ),
    (
        {"version": {"additionalPrinterColumns": [{"name": "a", "type": "text", "format": "x"}]}},
        ['spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of '
         "boolean,date,integer,number,string",
         'spec.additionalPrinterColumns[0].format: Invalid value: "x": must be one of '
         "byte,date,date-time,double,float,int32,int64,password",
         "spec.additionalPrinterColumns[0].JSONPath: Required value"],
    ),
    (
        {"version": {"selectableFields": [{"jsonPath": ".metadata.name"}, {}]}},
        ['spec.selectableFields[0].jsonPath: Invalid value: ".metadata.name": is an invalid path: '
         "does not refer to a valid field",
         "spec.selectableFields[1].jsonPath: Required value"],
    ),
    (
        {"version": {"subresources": {"scale": {"specReplicasPath": "x"}}}},
        ['spec.subresources.scale.specReplicasPath: Invalid value: "x": must be a simple json '
         "path starting with .",
         "spec.subresources.scale.statusReplicasPath: Required value"],
    ),
    (
        {"conversion": {"strategy": "Other", "webhook": WEBHOOK["webhook"]}},
        ['spec.conversion.strategy: Unsupported value: "Other": supported values: "None", '
         '"Webhook"',
         f"{CLIENT}: Forbidden: should not be set when strategy is not set to Webhook",
         "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is "
         "not set to Webhook"],
    ),
    (
        {"conversion": {"strategy": "Webhook"}},
        [f"{CLIENT}: Required value: required when strategy is set to Webhook",
         "spec.conversion.conversionReviewVersions: Required value"],
    ),
    (
        converted(url="http://u@/x?a=b#c"),
        [f"{CLIENT}.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired "
         "format: https://host[/path]",
         f'{CLIENT}.url: Invalid value: "": host must be provided; desired format: '
         "https://host[/path]",
         f'{CLIENT}.url: Invalid value: "u": user information is not permitted in the URL',
         f'{CLIENT}.url: Invalid value: "c": fragments are not permitted in the URL',
         f'{CLIENT}.url: Invalid value: "a=b": query parameters are not permitted in the URL'],
    ),
    (
        converted(service={"name": "n", "namespace": "n", "port": 0, "path": "a//b/"}),
        [f"{CLIENT}.service.port: Invalid value: 0: port is not valid: must be between 1 and "
         "65535, inclusive",
         f"{CLIENT}.service.path: Invalid value: \"a//b/\": must start with a '/'",
         f'{CLIENT}.service.path: Invalid value: "a//b/": segment[0] may not be empty',
         f'{CLIENT}.service.path: Invalid value: "a//b/": segment[1] may not be empty'],
    ),
    (
        {"preserveUnknownFields": True, **converted(url="https://e.com")},
        ['spec.conversion.strategy: Invalid value: "Webhook": must be None if '
         "spec.preserveUnknownFields is true",
         "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set "
         "x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), SPECS)
def test_specs(spec: dict[str, Any], expected: list[str]) -> None:
    assert errors(definition(**copy.deepcopy(spec))) == expected


def test_versions_together() -> None:
    found = errors(definition(SCHEMA, {**OLDER, "name": "v1", "storage": True}))
    assert [text.rpartition(": ")[2] for text in found] == [
        "must contain unique version names",
        "must have exactly one version marked as storage version",
    ]
    assert errors(definition(None, {"name": "V2"})) == [
        "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        "spec.versions[1].schema.openAPIV3Schema: Required value: schemas are required",
        f'spec.versions[1].name: Invalid value: "V2": {PLURAL}',
    ]


def test_a_version_that_was_stored_stays() -> None:
    old = definition(SCHEMA, OLDER)
    old["status"]["storedVersions"] = ["v1beta1", "v1"]
    new = copy.deepcopy(old)
    new["spec"]["versions"].pop()
    assert errors(new, old) == [
        'status.storedVersions[0]: Invalid value: "v1beta1": missing from spec.versions; v1beta1 '
        "was previously a storage version, and must remain in spec.versions until a storage "
        "migration ensures no data remains persisted in v1beta1 and removes v1beta1 from "
        "status.storedVersions"
    ]


def test_what_an_established_definition_keeps() -> None:
    old = definition(**converted(url="https://e.com", caBundle=pem(b"\x30\x00")))
    old["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    new = copy.deepcopy(old)
    new["spec"] |= {"scope": "Cluster", "group": "f.com"}
    new["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = "Cg=="
    assert errors(new, old) == [
        f'{CLIENT}.caBundle: Invalid value: "Cg==": unable to load root certificates: data does '
        "not contain any valid RSA or ECDSA certificates",
        'spec.scope: Invalid value: "Cluster": field is immutable',
        'spec.group: Invalid value: "f.com": field is immutable',
    ]
    # A bundle that did not work before may go on not working.
    odd = copy.deepcopy(new)
    odd["spec"] |= {"scope": "Namespaced", "group": "e.com"}
    old["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = "Cgo="
    assert errors(odd, old) == []


def pem(der: bytes) -> str:
    body = base64.b64encode(der).decode()
    text = f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
    return base64.b64encode(text.encode()).decode()


def test_approval_is_asked_for_when_it_changes_though_the_spec_does_not() -> None:
    key = "api-approved.kubernetes.io"
    note = {key: "https://example.com/1"}
    old = definition(group="x.k8s.io", annotations=note)
    old["metadata"]["name"] = "as.x.k8s.io"
    assert errors(old) == []
    new = copy.deepcopy(old)
    del new["metadata"]["annotations"][key]
    assert errors(new, old) == [
        f"metadata.annotations[{key}]: Required value: protected groups must have approval "
        f'annotation "{key}", see https://github.com/kubernetes/enhancements/pull/1111'
    ]
    assert errors(new, copy.deepcopy(new)) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (
            {"groupPriorityMinimum": 0, "versionPriority": 1001},
            ["spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
             "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000"],
        ),
        (
            {"service": None, "insecureSkipTLSVerify": True, "caBundle": "AAA="},
            ['spec.caBundle: Invalid value: "2 bytes": local APIServices may not have a caBundle',
             "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have "
             "insecureSkipTLSVerify"],
        ),
        (
            {"service": {"port": 70000}},
            ["spec.service.namespace: Required value",
             "spec.service.name: Required value",
             "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and "
             "65535, inclusive"],
        ),
        (
            {"insecureSkipTLSVerify": True, "caBundle": pem(b"\x30\x00")},
            ["spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is "
             "present"],
        ),
    ],
)  # fmt: skip
def test_api_services(spec: dict[str, Any], expected: list[str]) -> None:
    whole = {
        "group": "e.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
        "service": {"name": "n", "namespace": "n"},
    }  # fmt: skip
    obj = {"metadata": {"name": "v1.e.com"}, "spec": {**whole, **spec}}
    SERVICE.default(obj)
    assert errors(obj, None, SERVICE) == expected
