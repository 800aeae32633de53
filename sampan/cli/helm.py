"""`sampan helm ...`: charts and releases, by Helm's own SDK; no helm program is needed.

The SDK (extra `sampan[helm]`) is imported when a command runs, not before: it is 100 MB of Go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import NAME, Data, Json, Name, fail, not_running, paths_of

if TYPE_CHECKING:
    import helm_python

TIMEOUT_S = 300
"""As Helm's own --timeout: how long hooks and --wait may take."""


def seconds(text: str | int) -> int:
    """Of a time as Helm takes it, or of plain seconds. Raises typer.BadParameter."""
    words = str(text)
    if words.isdecimal():
        return int(words)
    from sampan.api.times import TimeError, parse_duration_s

    try:
        return max(1, round(parse_duration_s(words)))
    except TimeError as error:
        raise typer.BadParameter(str(error)) from None


app = typer.Typer(help="Install and manage charts, by Helm's SDK.", no_args_is_help=True)

Release = Annotated[str, typer.Argument(metavar="RELEASE")]
Chart = Annotated[str, typer.Argument(metavar="CHART", help="A folder, a .tgz, or oci://...")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The release's namespace.")]
Values = Annotated[
    list[Path] | None, typer.Option("--values", "-f", help="A file of values.", exists=True)
]
Set = Annotated[list[str] | None, typer.Option("--set", help="key=value[,key=value]")]
SetString = Annotated[list[str] | None, typer.Option("--set-string", help="The same, as text.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until everything is ready.")]
Timeout = Annotated[
    int,
    typer.Option("--timeout", parser=seconds, metavar="TIME", help="5m30s, or seconds."),
]
Atomic = Annotated[
    bool,
    typer.Option("--rollback-on-failure", "--atomic", help="Undo what does not get ready."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Ask the server, change nothing.")]
Version = Annotated[str | None, typer.Option("--version", help="The chart's version.")]
Repo = Annotated[str | None, typer.Option("--repo", help="The chart repository's URL.")]


class Part(StrEnum):
    """What `get` can show of a release."""

    values = "values"
    manifest = "manifest"
    hooks = "hooks"
    notes = "notes"
    metadata = "metadata"


def sdk() -> Any:
    """The SDK; ends the command when it is not installed."""
    try:
        import helm_python
    except ImportError:
        fail("Helm's SDK is not installed; get it with: pip install 'sampan[helm]'")
    return helm_python


@contextmanager
def errors() -> Iterator[None]:
    """What Helm refuses is one line, as it says it."""
    helm = sdk()
    try:
        yield
    except helm.HelmError as error:
        fail(str(error))


@contextmanager
def releases(name: str, data: Path | None, namespace: str) -> Iterator[helm_python.Config]:
    """The releases of a cluster's namespace."""
    helm = sdk()
    paths = paths_of(name, data)
    config = paths.kubeconfig
    if not config.exists():
        fail(not_running(paths))
    with errors(), helm.Config(kubeconfig_path=config, namespace=namespace) as found:
        yield found


def read_values(files: list[Path] | None, sets: list[str] | None, texts: list[str] | None) -> Any:
    """Files in their order, then --set, then --set-string: the last one wins, maps merge."""
    import yaml

    helm = sdk()
    values: dict[str, Any] = {}
    for file in files or ():
        try:
            found = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            fail(f"{file}: {error}")
        if found is not None and not isinstance(found, dict):
            fail(f"{file}: values are a map")
        merge(values, found or {})
    with errors():
        for text in sets or ():
            merge(values, helm.parse_set_string(text))
        for text in texts or ():
            merge(values, helm.parse_set_string_values(text))
    return values


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def show(release: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(release))
        return
    known = release | {"chart": chart_of(release), "last deployed": release.get("deployed_at", "")}
    for field in ("name", "last deployed", "namespace", "status", "revision", "chart"):
        print(f"{field.upper()}: {known.get(field, '')}")
    if notes := release.get("notes"):
        print(f"NOTES:\n{notes}")


def chart_of(release: dict[str, Any]) -> str:
    """Name and version in one word, as Helm shows them."""
    return "-".join(filter(None, (release.get("chart_name"), release.get("chart_version"))))


@app.command()
def install(
    release: Release,
    chart: Chart,
    namespace: Namespace = "default",
    values: Values = None,
    sets: Set = None,
    texts: SetString = None,
    version: Version = None,
    repo: Repo = None,
    create_namespace: Annotated[bool, typer.Option("--create-namespace")] = False,
    wait: Wait = False,
    atomic: Atomic = False,
    timeout: Timeout = TIMEOUT_S,
    dry_run: DryRun = False,
    name: Name = NAME,
    data: Data = None,
    json_output: Json = False,
) -> None:
    """Install a chart."""
    given = read_values(values, sets, texts)
    with releases(name, data, namespace) as config:
        made = config.install(
            chart,
            release,
            given,
            namespace=namespace,
            create_namespace=create_namespace,
            chart_version=version,
            chart_repo_url=repo,
            wait="watcher" if wait or atomic else "hookOnly",
            rollback_on_failure=atomic,
            timeout=timeout,
            dry_run="server" if dry_run else None,
        )
    show(made, json_output)


@app.command()
def upgrade(
    release: Release,
    chart: Chart,
    namespace: Namespace = "default",
    values: Values = None,
    sets: Set = None,
    texts: SetString = None,
    version: Version = None,
    repo: Repo = None,
    or_install: Annotated[bool, typer.Option("--install", "-i", help="If there is none.")] = False,
    create_namespace: Annotated[bool, typer.Option("--create-namespace")] = False,
    reuse_values: Annotated[bool, typer.Option("--reuse-values")] = False,
    reset_values: Annotated[bool, typer.Option("--reset-values")] = False,
    wait: Wait = False,
    atomic: Atomic = False,
    timeout: Timeout = TIMEOUT_S,
    dry_run: DryRun = False,
    name: Name = NAME,
    data: Data = None,
    json_output: Json = False,
) -> None:
    """Give a release another chart or other values."""
    given = read_values(values, sets, texts)
    helm = sdk()
    both: dict[str, Any] = {
        "namespace": namespace,
        "chart_version": version,
        "chart_repo_url": repo,
        "wait": "watcher" if wait or atomic else "hookOnly",
        "rollback_on_failure": atomic,
        "timeout": timeout,
        "dry_run": "server" if dry_run else None,
    }
    with releases(name, data, namespace) as config:
        if or_install and not is_installed(helm, config, release):
            made = config.install(chart, release, given, create_namespace=create_namespace, **both)
        else:
            made = config.upgrade(
                chart, release, given, reuse_values=reuse_values, reset_values=reset_values, **both
            )
    show(made, json_output)


def is_installed(helm: Any, config: helm_python.Config, release: str) -> bool:
    try:
        config.history(release, max_revisions=1)
    except helm.HelmNotFoundError:
        return False
    return True


@app.command()
def rollback(
    release: Release,
    revision: Annotated[int | None, typer.Argument(help="[the one before]")] = None,
    namespace: Namespace = "default",
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Go back to an earlier revision."""
    with releases(name, data, namespace) as config:
        how = "watcher" if wait else "hookOnly"
        config.rollback(release, version=revision, wait=how, timeout=timeout)
    print("Rollback was a success! Happy Helming!")


@app.command("test")
def run_tests(
    release: Release,
    namespace: Namespace = "default",
    logs: Annotated[bool, typer.Option("--logs", help="Print the logs of the tests.")] = False,
    timeout: Timeout = TIMEOUT_S,
    name: Name = NAME,
    data: Data = None,
    json_output: Json = False,
) -> None:
    """Run a release's tests."""
    with releases(name, data, namespace) as config:
        done = config.test(release, logs=logs, timeout=timeout)
    show(done["release"], json_output)
    if logs and not json_output:
        print(done.get("logs", ""))


@app.command()
def uninstall(
    release: Release,
    namespace: Namespace = "default",
    keep_history: Annotated[bool, typer.Option("--keep-history")] = False,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found")] = False,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Remove a release."""
    with releases(name, data, namespace) as config:
        config.uninstall(
            release,
            keep_history=keep_history,
            ignore_not_found=ignore_not_found,
            wait="watcher" if wait else "hookOnly",
            timeout=timeout,
        )
    print(f'release "{release}" uninstalled')


@app.command("list")
def list_releases(
    namespace: Namespace = "default",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A")] = False,
    name: Name = NAME,
    data: Data = None,
    json_output: Json = False,
) -> None:
    """List releases."""
    with releases(name, data, "" if all_namespaces else namespace) as config:
        found = config.list(all_namespaces=all_namespaces, all_states=True)
    if json_output:
        print(json.dumps(found))
        return
    table(found, ("name", "namespace", "revision", "updated", "status", "chart", "app version"))


@app.command()
def status(
    release: Release,
    namespace: Namespace = "default",
    name: Name = NAME,
    data: Data = None,
    json_output: Json = False,
) -> None:
    """Show a release."""
    with releases(name, data, namespace) as config:
        found = config.status(release)
    show(found, json_output)


@app.command()
def history(
    release: Release,
    namespace: Namespace = "default",
    name: Name = NAME,
    data: Data = None,
    json_output: Json = False,
) -> None:
    """List a release's revisions."""
    with releases(name, data, namespace) as config:
        found = config.history(release)
    if json_output:
        print(json.dumps(found))
        return
    table(found, ("revision", "updated", "status", "chart", "app version"))


@app.command()
def get(
    part: Part,
    release: Release,
    namespace: Namespace = "default",
    revision: Annotated[int | None, typer.Option("--revision")] = None,
    name: Name = NAME,
    data: Data = None,
) -> None:
    """Show the values, manifest, hooks, notes or metadata of a release."""
    import yaml

    with releases(name, data, namespace) as config:
        if part is Part.values:
            text = yaml.safe_dump(config.get_values(release, revision=revision))
        elif part is Part.metadata:
            text = yaml.safe_dump(config.get_metadata(release, revision=revision))
        elif part is Part.hooks:
            hooks = config.get_all(release, revision=revision)["hooks"]
            text = yaml.safe_dump_all(hooks)
        else:
            text = str(config.status(release, revision=revision).get(part, ""))
    print(text, end="" if text.endswith("\n") else "\n")


@app.command()
def template(
    release: Release,
    chart: Chart,
    namespace: Namespace = "default",
    values: Values = None,
    sets: Set = None,
    texts: SetString = None,
) -> None:
    """Print what a chart would make, without a cluster."""
    helm = sdk()
    given = read_values(values, sets, texts)
    need_dependencies(chart)
    with errors(), helm.Chart.load(chart) as loaded:
        made = loaded.render(given, name=release, namespace=namespace)
    for path, text in sorted(made.items()):
        if text.strip() and not path.endswith("NOTES.txt"):
            print(f"---\n# Source: {path}\n{text.strip()}")


def need_dependencies(chart: str) -> None:
    """End the command where a chart's folder has not what Chart.yaml asks for: it would be left out
    without a word."""
    if not Path(chart).is_dir():
        return
    with errors():
        listed = sdk().dependency_list(chart)
    if missing := [item["name"] for item in listed if item["status"] == "missing"]:
        text = f"found in Chart.yaml, but missing in charts/ directory: {', '.join(missing)}"
        fail(f"{text}; get them with: sampan helm dependency update {chart}")


@app.command()
def lint(chart: Chart, values: Values = None, sets: Set = None) -> None:
    """Look for mistakes in a chart."""
    helm = sdk()
    given = read_values(values, sets, None)
    with errors():
        found = helm.lint(chart, values=given)
    print(json.dumps(found, indent=2))


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    facts = [
        row
        | {
            "chart": chart_of(row),
            "updated": row.get("deployed_at", ""),
            "app version": row.get("app_version", ""),
        }
        for row in rows
    ]
    cells = [[str(row.get(column, "")) for column in columns] for row in facts]
    lines = [[column.upper() for column in columns], *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("   ".join(padded).rstrip())
