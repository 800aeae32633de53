"""How a version's objects relate to what lies in the store.

The usual case is that they are the same: one version, and nothing stored before its schema became
what it is. Then `view` is None, stored bytes are served as they are, and writes pay nothing.
Otherwise each object read is converted, pruned and given defaults, as upstream does on every read;
when all that is stored has been found to be just as it would be read, the usual case is back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orjson import dumps, loads

from sampan.api.errors import Object
from sampan.store.interface import Record
from sampan.wire.json import encode_object

from ..conversion import View
from .rules import Rules

if TYPE_CHECKING:
    from ..app import Server

SETTLED_AT_ONCE = 256
"""Objects looked through when a collection is first read; more are read one by one, as asked."""


class Storage:
    """What the versions of one definition share: where objects lie, and in which version."""

    def __init__(
        self, server: Server, prefix: str, api_version: str, *, uniform: bool, webhook: Any = None
    ) -> None:
        self.server = server
        self.prefix = prefix
        self.api_version = api_version
        """Objects are written in it."""
        self.uniform = uniform
        """All versions have one schema: what is written in one is good in all."""
        self.webhook = webhook
        """Converts between versions; None: only apiVersion changes."""


class Codec:
    """Reads and writes the objects of one version."""

    def __init__(self, storage: Storage, api_version: str, rules: Rules) -> None:
        self.storage = storage
        self.api_version = api_version
        self._rules = rules
        self._view = View(
            "",
            api_version,
            self.read,
            self._stored,
            self.prepare if storage.webhook is not None else None,
            self.glance if storage.webhook is not None else None,
        )
        self._settled = False

    @property
    def is_stored(self) -> bool:
        """Is this the version objects are written in?"""
        return self.api_version == self.storage.api_version

    @property
    def view(self) -> View | None:
        """How to read what is stored; None when it is read as it is."""
        if not self.is_stored:
            return self._view
        if not self._settled and self.storage.uniform:
            self._settled = self._settle()
        return None if self._settled else self._view

    def _settle(self) -> bool:
        """Is all that is stored just as it would be read?"""
        store, prefix = self.storage.server.store, self.storage.prefix
        found = store.range(prefix, limit=SETTLED_AT_ONCE)
        return not found.more and all(self.is_plain(record) for record in found.records)

    def is_plain(self, record: Record) -> bool:
        """Is a record just as it would be read?"""
        obj = self.storage.server.cache.peek(record)
        return obj.get("apiVersion") == self.api_version and self.read(obj) == obj

    def read(self, obj: Object) -> Object:
        """A stored object in this version; the stored one is shared and left alone."""
        if obj.get("apiVersion") != self.api_version:
            if self.storage.webhook is not None:
                obj = self.storage.webhook.converted(obj, self.api_version)
            else:
                obj = {**obj, "apiVersion": self.api_version}
        obj = self._rules.pruner(obj, None, [])
        if self._rules.has_defaults:
            obj = loads(dumps(obj))
            self._rules.default(obj)
        return obj

    def glance(self, obj: Object) -> Object:
        """The same for selectors, which cannot wait: not yet converted, it is looked at as it is
        stored."""
        webhook = self.storage.webhook
        if obj.get("apiVersion") != self.api_version and webhook is not None:
            obj = webhook.find(obj, self.api_version) or obj
        return obj

    def _stored(self, obj: Object) -> Object:
        return obj if self.is_stored else {**obj, "apiVersion": self.storage.api_version}

    async def prepare(self, objects: Callable[[], list[Object]]) -> None:
        """Have what `objects` gives converted, if that takes a call, so that `read` finds it."""
        if self.storage.webhook is not None:
            await self.storage.webhook.prepare(objects, self.api_version)

    async def converted(self, obj: Object) -> Object:
        """An object of another version in this one, stored or not; it is left alone. Raises
        InternalError."""
        webhook = self.storage.webhook
        if webhook is not None:
            obj = await webhook.convert(obj, self.api_version)
        return self.read({**obj, "apiVersion": self.api_version})

    async def opened(self, record: Record) -> tuple[Object, Object]:
        """(object, private copy) of a record that is about to be changed; the first is shared."""
        cache = self.storage.server.cache
        stored = cache.decode(record)
        if self.view is None:
            return stored, _private(stored)
        await self.prepare(lambda: [stored])
        old = self.read(stored)
        return old, _private(old)

    async def closed(self, obj: Object) -> tuple[bytes, Object]:
        """(bytes to store, the object they are of) of an object in this version."""
        if self.is_stored:
            return encode_object(obj), obj
        if self.storage.webhook is not None:
            stored = await self.storage.webhook.convert(obj, self.storage.api_version)
        else:
            stored = _private(self._stored(obj))
        return encode_object(stored), stored


def _private(obj: Object) -> Object:
    copy: Object = loads(dumps(obj))
    return copy
