"""What the house knows of a resource, as data.

Routes, discovery, OpenAPI, storage keys, defaulting, validation and table columns all derive from a
`Descriptor`. Built-in ones come from `api.kinds.KINDS` joined with the distilled schema; a custom
resource makes the very same descriptor at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from .errors import Cause, Object

if TYPE_CHECKING:
    from .decoding import Decoded


class Column(Struct, frozen=True):
    """One column of a Table (meta/v1 TableColumnDefinition)."""

    name: str
    type: str = "string"
    description: str = ""
    format: str = ""
    priority: int = 0
    """0 is always shown, 1 with `-o wide`."""


def nothing(obj: Object) -> None:
    """Default defaulting: none."""


def no_causes(obj: Object, old: Object | None) -> list[Cause]:
    """Default validation: nothing beyond the schema and metadata."""
    return []


def no_warnings(obj: Object, old: Object | None) -> list[str]:
    """Default warnings: none."""
    return []


STATUS_ALONE = ("annotations", "finalizers", "labels", "ownerReferences")
"""`Kind.status_keeps` of kinds whose /status changes no metadata (ResetObjectMetaForStatus)."""


def no_fields(obj: Object) -> Mapping[str, str]:
    """Default selectable fields: only metadata.name and metadata.namespace."""
    return {}


class Kind(Struct, frozen=True):
    """What we write by hand about a kind: one of these per file in `api/kinds/<group>/`.

    `default` sets upstream's defaults in place, on a copy that is the caller's own, after the
    schema has pruned it. It must be idempotent. `validate(obj, old)` gets `old=None` on create; it
    returns field errors in upstream's words and covers immutability. `validate_status` is called
    instead of `validate` for writes to /status. `prepare(obj, old)` is upstream's
    PrepareForCreate/Update beyond what `status` and `generation` say (dropped fields, derived
    values); it runs before defaults and validation, on a private copy, and never touches status
    unless that is its purpose. `cells(obj, now_s)` gives a row's cells in the order of `columns`.
    """

    group: str
    version: str
    kind: str
    short_names: Sequence[str] = ()
    categories: Sequence[str] = ()
    default: Callable[[Object], None] = nothing
    defaults_metadata: bool = False
    """Does `default` set labels too? Other kinds' is not called when only metadata changes."""
    validate: Callable[[Object, Object | None], list[Cause]] = no_causes
    validate_status: Callable[[Object, Object | None], list[Cause]] = no_causes
    validate_parts: Mapping[str, Callable[[Object, Object | None], list[Cause]]] = field(
        default_factory=dict
    )
    """Called instead of `validate` for writes to other subresources that are part of the object
    (ephemeralcontainers, resize, approval, finalize), by their name; without one, `validate`."""
    prepare: Callable[[Object, Object | None], Sequence[str] | None] | None = None
    """Returns what upstream warns of while it prepares, if anything."""
    prepare_parts: Mapping[str, Callable[[Object, Object], None]] = field(default_factory=dict)
    """Called instead of `prepare` for writes to a subresource that is part of the object, by its
    name: puts back, in place, what that subresource does not take."""
    warnings: Callable[[Object, Object | None], list[str]] = no_warnings
    """(obj, old or None) -> what is doubtful about a valid object, in upstream's words
    (WarningsOnCreate, WarningsOnUpdate). Writes of the whole object send them as Warning headers;
    writes to subresources have none."""
    fields: Callable[[Object], Mapping[str, str]] = no_fields
    """Selectable fields beyond metadata.name/namespace: name -> value ("" when unset)."""
    columns: Sequence[Column] = ()
    cells: Callable[[Object, float], list[Any]] | None = None
    storage: str = ""
    """Key prefix below /registry/ where upstream's is not the plural, e.g. "minions"."""
    computed: bool = False
    """Made when it is asked for: nothing is stored, and nobody can watch it."""
    generation: bool | None = None
    """Does metadata.generation count spec changes? None: yes if there is a status subresource."""
    grows: Callable[[Object, Object], bool] | None = None
    """(new, old) -> does metadata.generation grow? None: with any field but metadata and status."""
    status_keeps: Sequence[str] = ()
    """Fields of metadata that writes to /status leave as they were."""
    name_rule: str = "subdomain"
    """Upstream's rule for metadata.name: subdomain, label, label1035 or path."""
    extra_subresources: Mapping[str, Subresource] = field(default_factory=dict)
    """Those the distilled schema does not list (exec, attach, portforward, proxy, token)."""
    stored_as: tuple[str, str] | None = None
    """(group, version) of the kind whose form objects are stored in, where two resources share one
    store (events, horizontalpodautoscalers). Then `from_stored` gives this kind's form of a stored
    object and `to_stored` the other way round; both copy, and neither fails."""
    from_stored: Callable[[Object], Object] | None = None
    to_stored: Callable[[Object], Object] | None = None
    deprecated: str = ""
    """The warning that goes with every answer about the kind, as upstream words it."""


class Structure(Struct, frozen=True, eq=False, weakref=True):
    """The schema of a resource that is not built in, compared by identity: a definition that
    changes makes a new one, and what was compiled from the old goes with it."""

    schema: Mapping[str, Any]
    """The structural schema of the version, as the custom resource definition has it; apiVersion,
    kind and metadata need not be in it."""
    decode: Callable[[Any, bool, Sequence[str]], Decoded]
    """(value, strict, duplicate paths) -> the pruned object and its problems, as
    `decoding.decode`. The value is shared: it is never changed, and returned itself when it is
    clean. Raises BadRequest."""


class Subresource(Struct, frozen=True):
    """`group/version/kind` is what the subresource takes and gives; verbs as in discovery."""

    kind: str
    verbs: Sequence[str]
    group: str = ""
    version: str = ""


class ScalePaths(Struct, frozen=True):
    """Where a custom resource keeps what a Scale shows, as dotted JSON paths."""

    spec_replicas: str
    status_replicas: str
    selector: str = ""


class Custom(Struct, frozen=True, eq=False):
    """What the server knows of a custom resource beyond what built-in ones have."""

    definition: str
    """Name of its CustomResourceDefinition."""
    list_kind: str
    scale: ScalePaths | None
    codec: Any
    """How its objects lie in the store (`server.custom.codec.Codec`)."""
    terminating: bool = False
    """Its definition is being deleted: nothing new is created."""
    selectable: Sequence[str] = ()
    """Paths of the fields it is selected by, beyond its name and namespace, without their first
    dot."""


class ApiResource(Struct, frozen=True):
    """Where a resource is served: all that its clients need to know."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path of the collection, object or subresource."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


class Descriptor(ApiResource, frozen=True):
    """A served resource. Hashable by identity of its path; compare `plural` and `group`."""

    singular: str
    verbs: tuple[str, ...]
    """Discovery's words: create, delete, deletecollection, get, list, patch, update, watch."""
    subresources: Mapping[str, Subresource]
    definition: str
    """Name of the schema definition, e.g. "io.k8s.api.core.v1.Pod"."""
    rules: Kind
    storage: str
    """Key prefix with slashes, e.g. "/registry/pods/"."""
    has_status: bool
    counts_generation: bool
    structure: Structure | None = None
    """None for built-in resources, whose schema is found by `definition`."""

    custom: Custom | None = None
    """Of a custom resource; None for a built-in one."""

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List" if self.custom is None else self.custom.list_kind

    def key(self, namespace: str, name: str) -> str:
        """Storage key, laid out as upstream does in etcd."""
        return f"{self.storage}{namespace}/{name}" if self.namespaced else f"{self.storage}{name}"

    def prefix(self, namespace: str = "") -> str:
        """Storage prefix of a collection: of one namespace, or of all."""
        return f"{self.storage}{namespace}/" if namespace else self.storage

    def __hash__(self) -> int:
        return hash((self.group, self.version, self.plural))
