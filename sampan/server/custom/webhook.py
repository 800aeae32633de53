"""Conversion by a webhook (ConversionReview; apiextensions-apiserver pkg/apiserver/conversion).

Verbs that look into memory cannot wait for a call. So what they will read is converted first
(`prepare`), and they find it here. Bounds: `REMEMBERED` converted objects are kept (those of one
prepared read always, however many), `BATCH` go into one call, which may take `TIMEOUT_S`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from orjson import dumps, loads

from sampan.api.errors import Cause, InternalError, Object
from sampan.api.meta import new_uid, validate_annotations
from sampan.api.names import validate_labels

from ..webhooks.target import CallFailed, target_of

if TYPE_CHECKING:
    from ..app import Server

TIMEOUT_S = 30.0
"""Upstream's, for conversion webhooks."""
REMEMBERED = 1_024
BATCH = 500
"""Objects in one call: a list of thousands is several calls of some megabytes."""
GROUP = "apiextensions.k8s.io"
KNOWN_REVIEWS = ("v1", "v1beta1")

Key = tuple[str, str, str]
Objects = Callable[[], list[Object]]


class Unconverted(Exception):
    """A read came upon an object that was not prepared."""

    def __init__(self, obj: Object) -> None:
        super().__init__()
        self.obj = obj


class Webhook:
    """The conversion webhook of one definition, with what it answered lately."""

    def __init__(self, server: Server, definition: Object) -> None:
        webhook = definition["spec"]["conversion"]["webhook"]
        self._server = server
        self._client_config: Object = webhook.get("clientConfig") or {}
        reviews = webhook.get("conversionReviewVersions") or ("v1",)
        self._review = next((item for item in reviews if item in KNOWN_REVIEWS), "v1")
        self._known: OrderedDict[Key, Object] = OrderedDict()

    def converted(self, obj: Object, api_version: str) -> Object:
        """What `prepare` had converted. Raises Unconverted."""
        found = self._known.get(_key(obj, api_version))
        if found is None:
            raise Unconverted(obj)
        return found

    def find(self, obj: Object, api_version: str) -> Object | None:
        """The same where it is known."""
        return self._known.get(_key(obj, api_version))

    async def prepare(self, objects: Objects, api_version: str) -> None:
        """Have objects converted; asked again until nothing came in between. Raises
        InternalError."""
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        while True:
            missing = [
                obj
                for obj in objects()
                if obj["apiVersion"] != api_version and _key(obj, api_version) not in self._known
            ]
            if not missing:
                return
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                for obj, new in zip(batch, await self._call(batch, api_version), strict=True):
                    self._known[_key(obj, api_version)] = new

    async def convert(self, obj: Object, api_version: str) -> Object:
        """One object, which is about to be written. Raises InternalError."""
        return (await self._call([obj], api_version))[0]

    async def _call(self, objects: Sequence[Object], api_version: str) -> list[Object]:
        source = _described(objects[0])
        request_uid = new_uid()
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"{GROUP}/{self._review}",
            "request": {
                "uid": request_uid,
                "desiredAPIVersion": api_version,
                "objects": list(objects),
            },
        }
        try:
            target = target_of(self._client_config)
            answer = await self._server.webhooks.post_json(
                target, review, TIMEOUT_S, tell_timeout=False
            )
            found = _read(answer, request_uid, f"{GROUP}/{self._review}")
        except CallFailed as error:
            raise InternalError(
                f"conversion webhook for {source} failed: {error.message}"
            ) from None
        if len(found) != len(objects):
            raise InternalError(
                f"conversion webhook for {source} returned {len(found)} objects, "
                f"expected {len(objects)}"
            )
        return [
            _checked(old, new, api_version, f"conversion webhook for {source} returned invalid "
                     f"converted object at index {position}")
            for position, (old, new) in enumerate(zip(objects, found, strict=True))
        ]  # fmt: skip


def _key(obj: Object, api_version: str) -> Key:
    meta = obj["metadata"]
    return meta.get("uid", ""), meta.get("resourceVersion", ""), api_version


def _described(obj: Object) -> str:
    """A kind as Go prints a GroupVersionKind."""
    return f"{obj['apiVersion']}, Kind={obj['kind']}"


def _read(answer: Object, uid: str, api_version: str) -> list[Any]:
    """The converted objects of an answered review. Raises CallFailed."""
    if answer.get("kind") != "ConversionReview" or answer.get("apiVersion") != api_version:
        given = f"{answer.get('apiVersion', '')}, Kind={answer.get('kind', '')}"
        raise CallFailed(
            f"expected webhook response of {api_version}, Kind=ConversionReview, got {given}"
        )
    response = answer.get("response")
    if not isinstance(response, dict):
        raise CallFailed("no response provided")
    if response.get("uid") != uid:
        raise CallFailed(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        if result.get("message"):
            raise CallFailed(str(result["message"]))
        raise CallFailed(f"response.result.status was '{result.get('status', '')}', not 'Success'")
    found = response.get("convertedObjects") or []
    return found if isinstance(found, list) else []


def _checked(old: Object, new: Any, api_version: str, what: str) -> Object:
    """A converted object, of whose metadata only labels and annotations count. Raises
    InternalError."""
    meta = new.get("metadata") if isinstance(new, dict) else None
    if not isinstance(meta, dict):
        raise InternalError(
            f"{what}: invalid metadata of type {type(meta).__name__} in input object"
        )
    if new.get("apiVersion") != api_version:
        raise InternalError(
            f"{what}: invalid groupVersion (expected {api_version}, received "
            f"{new.get('apiVersion', '')})"
        )
    before = old["metadata"]
    for name, given, wanted in (
        ("kind", new.get("kind"), old.get("kind")),
        ("name", meta.get("name"), before.get("name")),
        ("namespace", meta.get("namespace"), before.get("namespace")),
        ("UID", meta.get("uid"), before.get("uid")),
    ):
        if (given or "") != (wanted or ""):
            why = f"must have the same {name}: {given or ''} != {wanted or ''}"
            raise InternalError(f"{what}: {why}")
    problems = _problems(meta)
    if problems:
        raise InternalError(f"{what}: {problems[0]}")
    kept = {name: value for name, value in before.items() if name not in ("labels", "annotations")}
    for field in ("labels", "annotations"):
        if meta.get(field):
            kept[field] = meta[field]
    result: Object = loads(dumps({**new, "metadata": kept}))
    return result


def _problems(meta: Object) -> list[Cause]:
    for field in ("labels", "annotations"):
        value = meta.get(field)
        if value is not None and not (
            isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
        ):
            return [Cause(f"metadata.{field}", "must be a map of strings")]
    return [
        *validate_labels(meta.get("labels") or {}, "metadata.labels"),
        *validate_annotations(meta.get("annotations") or {}, "metadata.annotations"),
    ]
