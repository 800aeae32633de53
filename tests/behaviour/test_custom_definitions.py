"""Definitions of custom resources: what is refused, whose names are granted, how they go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.behaviour.test_policies import POLICIES, binding, policy, put
from tests.kit.clock import FakeClock
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.definitions import (
    DEFINITIONS,
    FREE,
    MERGE,
    WIDGETS,
    Obj,
    conditions,
    definition,
    version,
    widget,
)

ONE = f"{DEFINITIONS}/widgets.example.com"
ROOT = "spec.validation.openAPIV3Schema.properties[spec]"
APPROVED = "api-approved.kubernetes.io"


def with_spec(**schema: Any) -> Obj:
    return definition(version(spec={"type": "object", **schema}))


def as_it_is(spec: Obj) -> Obj:
    """A definition whose spec has exactly this schema."""
    return definition(version(spec=spec))


async def refusal(body: Obj) -> str:
    async with api_cluster() as cluster:
        answer = await cluster.http("POST", DEFINITIONS, body)
        assert answer.status == 422, answer.json
        prefix = f'CustomResourceDefinition.apiextensions.k8s.io "{body["metadata"]["name"]}" is '
        assert answer.message.startswith(f"{prefix}invalid: ")
        return answer.message.removeprefix(f"{prefix}invalid: ")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"properties": {"a": {}}}, f"[{ROOT}.properties[a].type: Required value: must not be "
         f"empty for specified object fields, {ROOT}.type: Required value: must not be empty for "
         "specified object fields]"),
        ({"type": "array"}, f"{ROOT}.items: Required value: must be specified"),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
         f'{ROOT}.properties[a].default: Invalid value: "string":  in body must be of type '
         'integer: "string"'),
        ({"type": "object", "properties": {"a": {"type": "string"}},
          "additionalProperties": {"type": "string"}},
         f"{ROOT}.additionalProperties: Forbidden: additionalProperties and properties are mutual "
         "exclusive"),
        ({"type": "object", "anyOf": [{"type": "object"}]},
         f"{ROOT}.anyOf[0].type: Forbidden: must be empty to be structural"),
        ({"type": "array", "uniqueItems": True, "items": {"type": "string"}},
         f"{ROOT}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime "
         "complexity becomes quadratic"),
        ({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}},
         f"{ROOT}.x-kubernetes-list-map-keys: Required value: must not be empty if "
         "x-kubernetes-list-type is map"),
        ({"type": "object", "x-kubernetes-embedded-resource": True},
         f"{ROOT}.properties: Required value: must not be empty if x-kubernetes-embedded-resource "
         "is true without x-kubernetes-preserve-unknown-fields"),
        ({"x-kubernetes-int-or-string": True, "x-kubernetes-preserve-unknown-fields": True},
         f"{ROOT}.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if "
         "x-kubernetes-int-or-string is true"),
        ({"type": "string", "pattern": "("}, f'{ROOT}.pattern: Invalid value: "(": must be a valid '
         "regular expression, but isn't: error parsing regexp: missing closing ): `(`"),
        ({"type": "foo"}, f'{ROOT}.type: Unsupported value: "foo": supported values: "array", '
         '"boolean", "integer", "number", "object", "string"'),
        ({"type": "object", "x-kubernetes-validations": [{"rule": "self.x > 1"}]},
         f'{ROOT}.x-kubernetes-validations[0].rule: Invalid value: {{"rule":"self.x > 1"}}: '
         "compilation failed: ERROR: <input>:1:5: undefined field 'x'\n | self.x > 1\n | ....^"),
    ],
)  # fmt: skip
async def test_schemas_that_are_refused(spec: Obj, words: str) -> None:
    assert await refusal(as_it_is(spec)) == words


V1 = version()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"versions": [{"name": "v1", "served": True, "storage": True}]},
         "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"),
        ({"versions": [V1, {**V1, "storage": False}]}, "must contain unique version names"),
        ({"versions": [V1, version("v2")]},
         "must have exactly one version marked as storage version"),
        ({"versions": [version(storage=False)]},
         "must have exactly one version marked as storage version"),
        ({"versions": [version(deprecationWarning="old")]},
         'spec.versions[0].deprecationWarning: Invalid value: "old": can only be set for '
         "deprecated versions"),
        ({"versions": [version(additionalPrinterColumns=[
            {"name": "A", "type": "x", "jsonPath": ".a"}])]},
         'spec.additionalPrinterColumns[0].type: Invalid value: "x": must be one of '
         "boolean,date,integer,number,string"),
        ({"versions": [version(selectableFields=[{"jsonPath": ".spec.zz"}],
                               spec={"type": "object"})]},
         'spec.selectableFields[0].jsonPath: Invalid value: ".spec.zz": is an invalid path: does '
         "not refer to a valid field"),
        ({"versions": [version(subresources={"scale": {
            "specReplicasPath": ".a", "statusReplicasPath": ".status.x"}})]},
         'spec.subresources.scale.specReplicasPath: Invalid value: ".a": should be a json path '
         "under .spec"),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields: Invalid value: true: cannot "
         "set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema "
         "instead"),
        ({"scope": "Foo"}, 'spec.scope: Unsupported value: "Foo": supported values: "Cluster", '
         '"Namespaced"'),
        ({"conversion": {"strategy": "Webhook"}},
         "[spec.conversion.webhookClientConfig: Required value: required when strategy is set to "
         "Webhook, spec.conversion.conversionReviewVersions: Required value]"),
        ({"conversion": {"strategy": "Foo"}}, 'spec.conversion.strategy: Unsupported value: "Foo": '
         'supported values: "None", "Webhook"'),
        ({"group": "other.com"}, 'metadata.name: Invalid value: "widgets.example.com": must be '
         'spec.names.plural+"."+spec.group'),
    ],
)  # fmt: skip
async def test_definitions_that_are_refused(changes: Obj, words: str) -> None:
    body = definition()
    body["spec"] |= changes
    assert words in await refusal(body)


async def test_formats_that_nothing_checks_are_warned_of_once() -> None:
    def formed(**forms: str) -> Obj:
        strings = {name: {"type": "string", "format": form} for name, form in forms.items()}
        number = {"type": "integer", "format": "int64"}
        return with_spec(properties={**strings, "number": number})

    async with api_cluster() as cluster:
        body = formed(a="date-time", b="fancy", c="fancy", d="k8s-short-name")
        made = await cluster.http("POST", DEFINITIONS, body)
        assert made.headers.get("Warning") == '299 - "unrecognized format \\"fancy\\""'
        patch = {"spec": formed(b="fancy", e="fancier")["spec"]}
        changed = await cluster.http("PATCH", ONE, patch, content_type=MERGE)
        assert changed.headers.get("Warning") == '299 - "unrecognized format \\"fancier\\""'


async def test_protected_groups_need_approval() -> None:
    async with api_cluster() as cluster:

        async def create(plural: str, approval: str | None) -> Answer:
            body = definition(plural=plural, group="things.k8s.io")
            if approval is not None:
                body["metadata"]["annotations"] = {APPROVED: approval}
            return await cluster.http("POST", DEFINITIONS, body)

        refused = await create("widgets", None)
        assert refused.message.endswith(
            f"metadata.annotations[{APPROVED}]: Required value: protected groups must have approval"
            f' annotation "{APPROVED}", see https://github.com/kubernetes/enhancements/pull/1111'
        )
        assert (await create("widgets", "maybe")).status == 422
        kind = "KubernetesAPIApprovalPolicyConformant"
        good = await create("widgets", "https://github.com/kubernetes/kubernetes/pull/78458")
        assert conditions(good.json)[kind] == ("True", "ApprovedAnnotation")
        other = await create("gadgets", "unapproved, experimental-only")
        assert conditions(other.json)[kind] == ("False", "UnapprovedAnnotation")
        assert conditions(other.json)["Established"][0] == "True"


async def test_names_are_granted_to_who_comes_first() -> None:
    async with api_cluster() as cluster:
        names = {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]}
        await cluster.http("POST", DEFINITIONS, definition(names=names))
        rival = {"plural": "wadgets", "kind": "Wadget", "shortNames": ["wd"], "categories": ["all"]}
        second = (await cluster.http("POST", DEFINITIONS, definition(names=rival))).json
        assert conditions(second) == {
            "NamesAccepted": ("False", "ShortNamesConflict"),
            "Established": ("False", "NotAccepted"),
        }  # fmt: skip
        (problem,) = [item["message"] for item in second["status"]["conditions"]
                      if item["type"] == "NamesAccepted"]  # fmt: skip
        assert problem == '"wd" is already in use'
        wadgets = WIDGETS.replace("widgets", "wadgets")
        assert (await cluster.http("GET", wadgets)).status == 404
        # A name in another group is no rival.
        far = definition(names={**rival, "shortNames": ["wd"]}, group="other.com")
        made = await cluster.http("POST", DEFINITIONS, far)
        assert conditions(made.json)["Established"] == ("True", "InitialNamesAccepted")
        # What becomes free is granted without anybody asking.
        watch = cluster.stream(f"{DEFINITIONS}?watch=1&fieldSelector="
                               "metadata.name=wadgets.example.com")  # fmt: skip
        assert conditions((await anext(watch))["object"])["Established"][0] == "False"
        await cluster.http("DELETE", ONE)
        async with asyncio.timeout(10):
            while (now := conditions((await anext(watch))["object"]))["Established"][0] != "True":
                continue
        assert now["NamesAccepted"] == ("True", "NoConflicts")
        await watch.aclose()  # type: ignore[attr-defined]
        assert (await cluster.http("GET", wadgets)).status == 200


async def test_an_established_definition_keeps_its_names() -> None:
    async with api_cluster() as cluster:
        taken = {"plural": "gadgets", "kind": "Gadget", "shortNames": ["gg"]}
        await cluster.http("POST", DEFINITIONS, definition(names=taken))
        await cluster.http("POST", DEFINITIONS, definition())
        patch = {"spec": {"names": {"shortNames": ["gg", "wd"]}}}
        changed = await cluster.http("PATCH", ONE, patch, content_type=MERGE)
        assert changed.status == 200
        assert "shortNames" not in changed.json["status"]["acceptedNames"]
        assert conditions(changed.json) == {
            "NamesAccepted": ("False", "ShortNamesConflict"),
            "Established": ("True", "InitialNamesAccepted"),
        }
        assert (await cluster.http("POST", WIDGETS, widget())).status == 201


async def test_what_may_not_change() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", DEFINITIONS, definition())
        for patch, words in (
            ({"names": {"kind": "Other"}}, "field is immutable"),
            ({"scope": "Cluster"}, 'spec.scope: Invalid value: "Cluster": field is immutable'),
            ({"group": "other.com"}, "field is immutable"),
            ({"names": {"plural": "others"}}, "field is immutable"),
        ):
            answer = await cluster.http("PATCH", ONE, {"spec": patch}, content_type=MERGE)
            assert answer.status == 422
            assert words in answer.message
        # A version that objects are stored in cannot be left out.
        versions = {"spec": {"versions": [version("v2")]}}
        answer = await cluster.http("PATCH", ONE, versions, content_type=MERGE)
        assert answer.message.endswith(
            'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was '
            "previously a storage version, and must remain in spec.versions until a storage "
            "migration ensures no data remains persisted in v1 and removes v1 from "
            "status.storedVersions"
        )


async def test_stored_versions_are_remembered_until_they_are_taken_out() -> None:
    async with api_cluster() as cluster:
        first = [version("v1"), version("v2", storage=False)]
        made = await cluster.http("POST", DEFINITIONS, definition(*first))
        assert made.json["status"]["storedVersions"] == ["v1"]
        moved = [version("v1", storage=False), version("v2")]
        patch = {"spec": {"versions": moved}}
        answer = await cluster.http("PATCH", ONE, patch, content_type=MERGE)
        assert answer.json["status"]["storedVersions"] == ["v1", "v2"]
        only = {"status": {"storedVersions": ["v2"]}}
        answer = await cluster.http("PATCH", f"{ONE}/status", only, content_type=MERGE)
        assert answer.json["status"]["storedVersions"] == ["v2"]
        patch = {"spec": {"versions": [version("v2")]}}
        assert (await cluster.http("PATCH", ONE, patch, content_type=MERGE)).status == 200


async def test_a_deletion_that_is_refused_is_tried_again() -> None:
    """Nobody would touch the definition again, which would hold its name for ever."""
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        await cluster.http("POST", DEFINITIONS, definition())
        await cluster.http("POST", WIDGETS, widget("a"))
        rule = {"apiGroups": ["example.com"], "apiVersions": ["*"], "operations": ["DELETE"],
                "resources": ["widgets"]}  # fmt: skip
        kept = policy(validations=[{"expression": "false"}],
                      matchConstraints={"resourceRules": [rule]})  # fmt: skip
        await put(cluster, kept, binding())
        assert (await cluster.http("DELETE", ONE)).status == 200
        await clock.advance(5)
        assert (await cluster.http("GET", f"{WIDGETS}/a")).status == 200
        unbound = f"{POLICIES}validatingadmissionpolicybindings/b"
        assert (await cluster.http("DELETE", unbound)).status == 200
        await clock.advance(60)
        assert (await cluster.http("GET", ONE)).status == 404


async def test_a_definition_waits_for_its_last_object() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", DEFINITIONS, definition())
        held = widget("held")
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await cluster.http("POST", WIDGETS, held)
        await cluster.http("POST", WIDGETS, widget("free"))
        watch = cluster.stream(f"{DEFINITIONS}?watch=1&fieldSelector="
                               "metadata.name=widgets.example.com")  # fmt: skip
        await anext(watch)
        gone = (await cluster.http("DELETE", ONE)).json
        assert gone["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
        assert conditions(gone)["Terminating"] == ("True", "InstanceDeletionPending")
        async with asyncio.timeout(10):
            while (now := conditions((await anext(watch))["object"]))["Terminating"] != (
                "True", "InstanceDeletionInProgress",
            ):  # fmt: skip
                assert now["Terminating"][1] == "InstanceDeletionPending"
        # No new ones meanwhile; what there is can be read and changed.
        refused = await cluster.http("POST", WIDGETS, widget("late"))
        assert (refused.status, refused.message) == (
            405, "create not allowed while custom resource definition is terminating",
        )  # fmt: skip
        await _until_only(cluster, "held")
        release = {"metadata": {"finalizers": None}}
        assert (await cluster.http("PATCH", f"{WIDGETS}/held", release,
                                   content_type=MERGE)).status == 200  # fmt: skip
        async with asyncio.timeout(10):
            while (event := await anext(watch))["type"] != "DELETED":
                continue
        last = conditions(event["object"])["Terminating"]
        assert last in {
            ("False", "InstanceDeletionCompleted"),
            ("True", "InstanceDeletionInProgress"),
        }
        await watch.aclose()  # type: ignore[attr-defined]
        assert (await cluster.http("GET", WIDGETS)).status == 404
        # The name is free, and nothing of before comes back.
        again = await cluster.http("POST", DEFINITIONS, definition())
        assert again.status == 201
        assert (await cluster.http("GET", WIDGETS)).json["items"] == []


async def _until_only(cluster: Cluster, name: str) -> None:
    """Wait until a widget is the only one, by a watch of all."""
    found = (await cluster.http("GET", WIDGETS)).json
    names = {item["metadata"]["name"] for item in found["items"]}
    revision = found["metadata"]["resourceVersion"]
    watch = cluster.stream(f"{WIDGETS}?watch=1&resourceVersion={revision}")
    async with asyncio.timeout(10):
        while names != {name}:
            event = await anext(watch)
            if event["type"] == "DELETED":
                names.discard(event["object"]["metadata"]["name"])
    await watch.aclose()  # type: ignore[attr-defined]


async def test_discovery_and_both_openapi_documents_know_at_once() -> None:
    async with api_cluster() as cluster:
        names = {"plural": "widgets", "kind": "Widget", "singular": "widget", "shortNames": ["wd"],
                 "categories": ["all", "things"]}  # fmt: skip
        number = {"type": "object", "description": "What it is.", "properties": {
            "size": {"type": "integer", "minimum": 1, "default": 2},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "maybe": {"type": "string", "nullable": True},
            "port": {"x-kubernetes-int-or-string": True},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": True,
                      "x-kubernetes-preserve-unknown-fields": True},
        }}  # fmt: skip
        parts = {"status": {}, "scale": {"specReplicasPath": ".spec.size",
                                         "statusReplicasPath": ".status.size"}}  # fmt: skip
        index = (await cluster.http("GET", "/openapi/v3")).json["paths"]
        assert "apis/example.com/v1" not in index
        body = definition(version(spec=number, subresources=parts), names=names)
        await cluster.http("POST", DEFINITIONS, body)
        rows = {item["name"]: item for item in
                (await cluster.http("GET", "/apis/example.com/v1")).json["resources"]}  # fmt: skip
        assert rows["widgets"]["categories"] == ["all", "things"]
        assert rows["widgets"]["shortNames"] == ["wd"]
        assert rows["widgets/scale"]["kind"] == "Scale"
        assert set(rows) == {"widgets", "widgets/status", "widgets/scale"}
        three = (await cluster.http("GET", "/openapi/v3/apis/example.com/v1")).json
        two = (await cluster.http("GET", "/openapi/v2")).json
        base = "/apis/example.com/v1/namespaces/{namespace}/widgets"
        whole = three["components"]["schemas"]["com.example.v1.Widget"]
        simple = two["definitions"]["com.example.v1.Widget"]
        for document in (three, two):
            assert f"{base}/{{name}}/scale" in document["paths"]
            assert f"{base}/{{name}}/status" in document["paths"]
            operation = document["paths"][base]["post"]
            assert operation["operationId"] == "createExampleComV1NamespacedWidget"
        kinds = [{"group": "example.com", "version": "v1", "kind": "Widget"}]
        assert whole["x-kubernetes-group-version-kind"] == kinds
        spec = whole["properties"]["spec"]["properties"]
        assert spec["size"] == {"type": "integer", "minimum": 1, "default": 2}
        assert spec["maybe"]["nullable"] is True
        assert spec["inner"]["required"] == ["apiVersion", "kind"]
        spec = simple["properties"]["spec"]["properties"]
        assert spec["size"] == {"type": "integer", "minimum": 1}
        # What version 2 cannot say, it says nothing of.
        assert "type" not in spec["maybe"]
        assert "type" not in spec["free"]
        hashed = (await cluster.http("GET", "/openapi/v3")).json["paths"]["apis/example.com/v1"]
        change = {"spec": {"versions": [version(spec=FREE)]}}
        await cluster.http("PATCH", ONE, change, content_type=MERGE)
        index = (await cluster.http("GET", "/openapi/v3")).json["paths"]
        assert index["apis/example.com/v1"] != hashed
        await cluster.http("DELETE", ONE)
        watch = cluster.stream(f"{DEFINITIONS}?watch=1")
        async with asyncio.timeout(10):
            while (await cluster.http("GET", ONE)).status == 200:
                await anext(watch)
        await watch.aclose()  # type: ignore[attr-defined]
        assert (await cluster.http("GET", "/openapi/v3/apis/example.com/v1")).status == 404
        two = (await cluster.http("GET", "/openapi/v2")).json
        assert "com.example.v1.Widget" not in two["definitions"]


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"deprecated": True}, "example.com/v1 Widget is deprecated"),
        ({"deprecated": True, "deprecationWarning": "use something else"}, "use something else"),
    ],
)
async def test_deprecated_versions_warn(changes: Obj, warning: str) -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", DEFINITIONS, definition(version(**changes)))
        for method, path, body in (
            ("POST", WIDGETS, widget()), ("GET", WIDGETS, None), ("GET", f"{WIDGETS}/a", None),
        ):  # fmt: skip
            answer = await cluster.http(method, path, body)
            assert answer.headers["Warning"] == f'299 - "{warning}"'


async def test_a_deprecated_version_names_its_successor() -> None:
    async with api_cluster() as cluster:
        versions = (version("v1beta1", storage=False, deprecated=True), version("v1"))
        await cluster.http("POST", DEFINITIONS, definition(*versions))
        old = await cluster.http("GET", WIDGETS.replace("/v1/", "/v1beta1/"))
        assert old.headers["Warning"] == (
            '299 - "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"'
        )
        assert "Warning" not in (await cluster.http("GET", WIDGETS)).headers
