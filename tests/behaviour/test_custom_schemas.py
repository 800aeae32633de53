"""What schemas of custom resources do to objects, those that lie in the store included."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.server import turns
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.definitions import (
    DEFINITIONS,
    FREE,
    MERGE,
    WIDGETS,
    Obj,
    definition,
    version,
    widget,
)

ONE = f"{DEFINITIONS}/widgets.example.com"
PRESERVE = {"x-kubernetes-preserve-unknown-fields": True}


async def define(cluster: Cluster, spec: Obj, **changes: Any) -> Obj:
    made = await cluster.http("POST", DEFINITIONS, definition(version(spec=spec, **changes)))
    assert made.status == 201, made.message
    found: Obj = made.json
    return found


async def redefine(cluster: Cluster, spec: Obj, **changes: Any) -> None:
    patch = {"spec": {"versions": [version(spec=spec, **changes)]}}
    answer = await cluster.http("PATCH", ONE, patch, content_type=MERGE)
    assert answer.status == 200, answer.message


def fields(**properties: Any) -> Obj:
    return {"type": "object", "properties": properties}


async def names(cluster: Cluster, selector: str) -> list[str]:
    answer = await cluster.http("GET", f"{WIDGETS}?fieldSelector={selector}")
    assert answer.status == 200, answer.message
    return [item["metadata"]["name"] for item in answer.json["items"]]


async def test_selectable_fields_follow_the_definition() -> None:
    spec = fields(color={"type": "string"}, size={"type": "integer"}, on={"type": "boolean"})
    color, size = {"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}
    async with api_cluster() as cluster:
        await define(cluster, spec, selectableFields=[color])
        await cluster.http("POST", WIDGETS, widget("a", color="red", size=1))
        await cluster.http("POST", WIDGETS, widget("b", color="blue", size=1))
        assert await names(cluster, "spec.color=red") == ["a"]
        await redefine(cluster, spec, selectableFields=[size])
        # What was indexed is so no longer; what is new finds what was there before it.
        gone = await cluster.http("GET", f"{WIDGETS}?fieldSelector=spec.color=red")
        assert (gone.status, gone.message) == (400, "field label not supported: spec.color")
        assert await names(cluster, "spec.size=1") == ["a", "b"]
        await cluster.http("PATCH", f"{WIDGETS}/a", {"spec": {"size": 2, "color": "green"}},
                           content_type=MERGE)  # fmt: skip
        await cluster.http("POST", WIDGETS, widget("c", color="red", size=1))
        assert await names(cluster, "spec.size=1") == ["b", "c"]
        # And back: an index of before would still say that a is red, and not know c.
        await redefine(cluster, spec, selectableFields=[color, size, {"jsonPath": ".spec.on"}])
        assert await names(cluster, "spec.color=red") == ["c"]
        assert await names(cluster, "spec.color=green,spec.size=2") == ["a"]
        assert await names(cluster, "spec.size!=1") == ["a"]
        await cluster.http("POST", WIDGETS, widget("d", on=True))
        assert await names(cluster, "spec.on=true") == ["d"]
        # Deletion of a collection and watches go by the fields of now, too.
        watch = cluster.stream(f"{WIDGETS}?watch=1&fieldSelector=spec.on=true")
        assert (await anext(watch))["object"]["metadata"]["name"] == "d"
        await cluster.http("DELETE", f"{WIDGETS}?fieldSelector=spec.on=true")
        assert (await anext(watch))["type"] == "DELETED"
        await watch.aclose()  # type: ignore[attr-defined]
        assert await names(cluster, "spec.color=blue") == ["b"]


async def test_both_openapi_documents_say_what_is_selectable() -> None:
    spec = fields(color={"type": "string"}, size={"type": "integer"})
    color, size = {"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}

    async def published(cluster: Cluster) -> list[Any]:
        third = (await cluster.http("GET", "/openapi/v3/apis/example.com/v1")).json
        second = (await cluster.http("GET", "/openapi/v2")).json
        return [
            schemas["com.example.v1.Widget"].get("x-kubernetes-selectable-fields")
            for schemas in (third["components"]["schemas"], second["definitions"])
        ]

    async with api_cluster() as cluster:
        await define(cluster, spec)
        assert await published(cluster) == [None, None]
        # The schema stays what it was, and so does what is remembered of it.
        await redefine(cluster, spec, selectableFields=[size, color])
        found = [{"fieldPath": "spec.size"}, {"fieldPath": "spec.color"}]
        assert await published(cluster) == [found, found]


async def test_the_index_goes_with_its_definition() -> None:
    spec = fields(color={"type": "string"}, shade={"type": "string"})
    async with api_cluster() as cluster:
        await define(cluster, spec, selectableFields=[{"jsonPath": ".spec.color"}])
        await cluster.http("POST", WIDGETS, widget("a", color="red"))
        assert await names(cluster, "spec.color=red") == ["a"]
        watch = cluster.stream(f"{DEFINITIONS}?watch=1")
        await cluster.http("DELETE", ONE)
        while (await anext(watch))["type"] != "DELETED":
            continue
        await watch.aclose()  # type: ignore[attr-defined]
        await define(cluster, spec, selectableFields=[{"jsonPath": ".spec.shade"},
                                                      {"jsonPath": ".spec.color"}])  # fmt: skip
        await cluster.http("POST", WIDGETS, widget("b", color="red", shade="dark"))
        assert await names(cluster, "spec.color=red") == ["b"]
        assert await names(cluster, "spec.shade=dark") == ["b"]


async def test_what_is_stored_is_pruned_and_given_defaults_when_it_is_read() -> None:
    async with api_cluster() as cluster:
        await define(cluster, FREE)
        old = {
            "kept": 1,
            "gone": 2,
            "inner": {"x": 1, "y": 2},
            "items": [{"n": 1}, {"n": 2, "z": 3}],
        }
        made = await cluster.http("POST", WIDGETS, widget("a", **old))
        item = fields(n={"type": "integer"}, kind={"type": "string", "default": "k"})
        await redefine(cluster, fields(
            kept={"type": "integer"},
            inner=fields(x={"type": "integer"}),
            items={"type": "array", "items": item},
            added={"type": "object", "default": {}, **fields(deep={"type": "string",
                                                                   "default": "d"})},
        ))  # fmt: skip
        wanted = {
            "kept": 1, "inner": {"x": 1}, "added": {"deep": "d"},
            "items": [{"n": 1, "kind": "k"}, {"n": 2, "kind": "k"}],
        }  # fmt: skip
        read = (await cluster.http("GET", f"{WIDGETS}/a")).json
        assert read["spec"] == wanted
        assert (await cluster.http("GET", WIDGETS)).json["items"][0]["spec"] == wanted
        # Reading changes nothing.
        assert read["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"]
        patch = {"metadata": {"labels": {"a": "b"}}}
        touched = (await cluster.http("PATCH", f"{WIDGETS}/a", patch, content_type=MERGE)).json
        assert touched["spec"] == wanted
        await redefine(cluster, FREE)
        # What a write has pruned is gone for good.
        assert (await cluster.http("GET", f"{WIDGETS}/a")).json["spec"] == wanted


NULLS = fields(
    maybe={"type": "string", "nullable": True},
    never={"type": "string"},
    filled={"type": "string", "default": "x"},
    both={"type": "string", "nullable": True, "default": "y"},
    needed={"type": "array", "items": {"type": "string", "nullable": True}},
    texts={"type": "array", "items": {"type": "string"}},
)


async def test_null() -> None:
    async with api_cluster() as cluster:
        await define(cluster, NULLS)
        given = widget("a", maybe=None, filled=None, both=None, needed=["a", None])
        made = await cluster.http("POST", WIDGETS, given)
        assert made.status == 201, made.message
        # A null that may not be is as if it were not there, with a default or without.
        assert made.json["spec"] == {
            "maybe": None, "filled": "x", "both": None, "needed": ["a", None],
        }  # fmt: skip
        pruned = await cluster.http("POST", WIDGETS, widget("b", never=None))
        assert pruned.json["spec"] == {"filled": "x", "both": "y"}
        # But in a list it has its place.
        bad = await cluster.http("POST", WIDGETS, widget("c", texts=[None]))
        assert bad.status == 422
        assert bad.message == (
            'Widget.example.com "c" is invalid: spec.texts[0]: Invalid value: "null": '
            'spec.texts[0] in body must be of type string: "null"'
        )


@pytest.mark.parametrize(
    ("value", "good"), [(80, True), ("http", True), ("50%", True), (1.5, False), ([], False)]
)
async def test_int_or_string(value: Any, good: bool) -> None:
    async with api_cluster() as cluster:
        await define(cluster, fields(port={"x-kubernetes-int-or-string": True}))
        answer = await cluster.http("POST", WIDGETS, widget("a", port=value))
        assert answer.status == (201 if good else 422), answer.message
        if good:
            assert answer.json["spec"] == {"port": value}
        else:
            assert "spec.port in body must be of type integer,string" in answer.message


async def test_embedded_objects_are_objects() -> None:
    template = {"type": "object", "x-kubernetes-embedded-resource": True, **PRESERVE}
    async with api_cluster() as cluster:
        await define(cluster, fields(template=template))

        async def create(name: str, **inner: Any) -> Answer:
            return await cluster.http("POST", WIDGETS, widget(name, template=inner))

        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "nope": 1},
               "spec": {"any": "thing"}}  # fmt: skip
        made = await create("a", **pod)
        assert made.status == 201, made.message
        assert made.json["spec"]["template"] == {**pod, "metadata": {"name": "x"}}
        missing = await create("b", metadata={})
        assert missing.status == 422
        for word in ("apiVersion", "kind"):
            assert f"spec.template.{word}: Required value: must not be empty" in missing.message
        wrong = await create("c", apiVersion="v1", kind="no kind", metadata={"name": "x y"})
        assert wrong.status == 422
        assert "spec.template.kind: Invalid value: " in wrong.message


async def test_rules_that_see_what_was_where_there_is_nothing() -> None:
    rule = {"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "message": "only up",
            "optionalOldSelf": True}  # fmt: skip
    first = {"rule": "oldSelf.hasValue() || self < 10", "message": "starts low",
             "optionalOldSelf": True}  # fmt: skip
    number = {"type": "integer", "x-kubernetes-validations": [rule, first]}
    async with api_cluster() as cluster:
        await define(cluster, fields(n=number))
        high = await cluster.http("POST", WIDGETS, widget("a", n=50))
        assert high.message == (
            'Widget.example.com "a" is invalid: spec.n: Invalid value: 50: starts low'
        )
        assert (await cluster.http("POST", WIDGETS, widget("a", n=5))).status == 201

        async def to(value: int) -> Answer:
            patch = {"spec": {"n": value}}
            return await cluster.http("PATCH", f"{WIDGETS}/a", patch, content_type=MERGE)

        assert (await to(50)).status == 200
        down = await to(49)
        assert (down.status, "only up" in down.message) == (422, True)


async def test_unknown_fields_are_reported_as_asked() -> None:
    async with api_cluster() as cluster:
        await define(cluster, fields(a={"type": "integer"}))
        strict = await cluster.http("POST", f"{WIDGETS}?fieldValidation=Strict",
                                    widget("x", a=1, b=2))  # fmt: skip
        assert (strict.status, strict.message) == (
            400, 'Widget in version "v1" cannot be handled as a Widget: strict decoding error: '
            'unknown field "spec.b"',
        )  # fmt: skip
        warned = await cluster.http("POST", f"{WIDGETS}?fieldValidation=Warn",
                                    widget("x", a=1, b=2))  # fmt: skip
        assert warned.json["spec"] == {"a": 1}
        assert 'unknown field \\"spec.b\\"' in warned.headers["Warning"]


async def test_expressions_of_rules_are_timed() -> None:
    async with api_cluster() as cluster:
        rule = {"x-kubernetes-validations": [{"rule": "self.a > 0"}]}
        await define(cluster, {**fields(a={"type": "integer"}), **rule})
        await cluster.http("POST", WIDGETS, widget("x", a=1))
        text = (await cluster.http("GET", "/metrics")).body.decode()
        assert "apiserver_cel_evaluation_duration_seconds_count 1\n" in text


async def test_replicas_that_were_never_set_can_be_scaled() -> None:
    paths = {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}
    async with api_cluster() as cluster:
        await define(cluster, fields(n={"type": "integer"}), subresources={"scale": paths})
        await cluster.http("POST", WIDGETS, widget("a"))
        scale = f"{WIDGETS}/a/scale"
        missing = await cluster.http("GET", scale)
        assert missing.message == 'the spec replicas field ".spec.n" does not exist'
        idle = await cluster.http("PATCH", scale, {"metadata": {}}, content_type=MERGE)
        assert (idle.status, idle.message) == (
            400, 'the spec replicas field ".spec.n" cannot be empty',
        )  # fmt: skip
        patch = {"spec": {"replicas": 3}}
        scaled = await cluster.http("PATCH", scale, patch, content_type=MERGE)
        assert (scaled.status, scaled.json["spec"]) == (200, {"replicas": 3})
        assert (await cluster.http("GET", f"{WIDGETS}/a")).json["spec"] == {"n": 3}


# A rule of some 9 units a pair: with 200 numbers 360,000, more than a turn of the loop may take
# and less than one call may cost.
PAIRS = "self.numbers.all(x, self.numbers.all(y, x + y >= 0))"


async def test_rules_that_take_long_let_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the loop's thread, these rules would keep everybody waiting for a tenth of a second."""
    aside: list[Any] = []

    async def spy(check: Any, *arguments: Any) -> Any:
        aside.append(check)
        return await thread(check, *arguments)

    thread = turns.aside
    monkeypatch.setattr(turns, "aside", spy)
    numbers = {"type": "array", "items": {"type": "integer"}, "maxItems": 400}
    spec = fields(numbers=numbers)
    spec["x-kubernetes-validations"] = [{"rule": PAIRS}] * 3
    async with api_cluster() as cluster:
        await define(cluster, spec)

        async def patch(size: int) -> Answer:
            body = {"spec": {"numbers": list(range(size))}}
            return await cluster.http("PATCH", f"{WIDGETS}/big", body, content_type=MERGE)

        made = await cluster.http("POST", WIDGETS, widget("big", numbers=[1, 2, 3]))
        assert made.status == 201, made.message
        assert not aside
        big = await patch(200)
        assert big.status == 200, big.message
        assert len(aside) == 1
        # The whole budget counts, not what one turn may take.
        over = await patch(390)
        assert over.status == 422
        assert "call cost exceeds limit" in over.message
