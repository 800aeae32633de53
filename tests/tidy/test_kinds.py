"""Kind files and the lines of `KINDS` hold together, and cover what is served at GA."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

from sampan.api import kinds
from sampan.api.kinds.table import KINDS
from sampan.api.resources import YOUNG, api_resource, builtin, resource
from sampan.api.schema import resource_rows
from tests.kit.samples import sample

ROOT = Path(kinds.__file__).parent
GA = ("v1", "v2")


def kind_files() -> dict[str, Path]:
    """Module name -> file of every module that makes a Kind."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted(ROOT.rglob("*.py"))
        if "KIND = Kind(" in path.read_text()
    }


def test_every_kind_file_is_listed_and_every_line_has_a_file() -> None:
    made = [import_module(f"sampan.api.kinds.{name}").KIND for name in kind_files()]
    assert {id(kind) for kind in made} == {id(kind) for kind in KINDS}
    assert len(KINDS) == len(made)


def test_files_are_named_after_their_kinds() -> None:
    for name, path in kind_files().items():
        kind = import_module(f"sampan.api.kinds.{name}").KIND
        group = kind.group.partition(".")[0] or "core"
        assert path.parent.name == group, name
        assert path.stem in (kind.kind.lower(), f"{kind.kind.lower()}_{kind.version}"), name


def test_kinds_are_those_served_at_ga() -> None:
    served = {
        (row["group"], row["version"], row["kind"])
        for row in resource_rows()
        if row["version"] in GA or YOUNG.get((row["plural"], row["group"])) == row["version"]
    }
    assert {(kind.group, kind.version, kind.kind) for kind in KINDS} == served


def test_storage_prefixes_are_explicit_and_shared_only_by_views() -> None:
    by_prefix: dict[str, list[str]] = {}
    for kind in KINDS:
        # Either it says where it is, or that there is nothing to store.
        assert bool(kind.storage) != kind.computed, kind.kind
        if kind.stored_as is None and not kind.computed:
            by_prefix.setdefault(kind.storage, []).append(kind.kind)
    assert all(len(names) == 1 for names in by_prefix.values()), by_prefix


class Untouched(dict):  # type: ignore[type-arg]
    """Metadata that must stay as it is."""

    def __setitem__(self, name: object, value: object) -> None:
        raise AssertionError(f"metadata.{name} was set")

    def setdefault(self, name: object, value: object = None) -> object:
        raise AssertionError(f"metadata.{name} was set")


def test_defaults_leave_metadata_alone_or_say_so() -> None:
    touching = set()
    for descriptor in builtin():
        body = sample(descriptor, "x")
        if "template" in body.get("spec", {}):
            body["spec"]["template"]["metadata"] = {"labels": {"app": "web"}}
        body["metadata"] = Untouched(body["metadata"])
        try:
            descriptor.rules.default(body)
        except AssertionError:
            touching.add(descriptor.kind)
    assert touching == {kind.kind for kind in KINDS if kind.defaults_metadata}


def test_who_only_names_resources_names_the_same() -> None:
    for descriptor in builtin():
        plain = api_resource(descriptor.plural, descriptor.group)
        newest = resource(descriptor.plural, descriptor.group)
        assert (plain.path("a", "b"), plain.kind) == (newest.path("a", "b"), newest.kind)


def test_a_node_loads_no_rules() -> None:
    """What it imports at its start, and naming what it asks for."""
    script = """if True:
        import sys
        import sampan.daemon.node
        from sampan.api.resources import api_resource
        api_resource("pods")
        print(*(name for name in sys.modules if name.startswith("sampan.api.kinds.")))
    """
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert "sampan.api.kinds.table" not in loaded.stdout.split()
    assert "sampan.api.kinds.core.service" not in loaded.stdout.split()
