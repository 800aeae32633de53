"""Starting one container of a pod: image and sandbox at once, then create and start."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.runtime.interface import ContainerSpec, Image, RuntimeFailure, State

from .allocation import WHOLE_POD, NotEnough
from .attempts import attempt_of, seconds_of
from .downward import UnknownField
from .ending import grace_of_restart
from .environment import ConfigError, variables
from .hooks import POST_START_FAILED, hook_of, run_hook
from .looks import Target
from .manifests import is_static
from .providers import claims_devices
from .pulls import Held
from .rotation import rotated
from .state import EXITED, Attempt, Waiting, is_sidecar
from .stopping import stop_container
from .timings import POD_START, POD_START_SLI, POD_START_TOTAL
from .translate import SHM, Place, container_spec, sub_path

if TYPE_CHECKING:
    from .worker import PodWorker

log = logging.getLogger("sampan.node.starting")

RETRY_S = 10.0
# How long a failed start shows as RunContainerError before it is tried again.
START_ERROR_S = 1.0
START_ERROR_EXIT = 128


async def start_container(worker: PodWorker, name: str) -> None:
    """Start (or restart) the container; why it did not start is left in the pod's state."""
    container = worker.containers[name]
    try:
        image = await _image_and_sandbox(worker, container)
        async with worker.parts.creating:
            run = await _create_and_start(worker, container, image)
    except Held as held:
        worker.state.waiting[name] = held.waiting
        return
    worker.state.waiting.pop(name, None)
    hook = hook_of(container, "postStart")
    if hook and run.state != EXITED:
        await _post_start(worker, container, run, hook)
    if not worker.has_exited(name, run.id):
        worker.watch_health(name, run)


async def _image_and_sandbox(worker: PodWorker, container: Mapping[str, Any]) -> Image:
    parts = worker.parts
    if parts.pulls.is_free(container):
        await worker.prepared()
        return await parts.pulls.ensure(container, (), worker.narrator)
    # The pull secrets have to be known; the network need not be there yet.
    preparing = asyncio.ensure_future(worker.prepared())
    try:
        secrets_now = await worker.sandbox.pull_secrets()
        image = await parts.pulls.ensure(container, secrets_now, worker.narrator)
        await preparing
    finally:
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)
    return image


async def _create_and_start(
    worker: PodWorker, container: Mapping[str, Any], image: Image
) -> Attempt:
    parts, name = worker.parts, container["name"]
    # A thread that binds a part of a volume cannot be called back.
    worker.commit(name)
    try:
        volumes = await _volumes(worker, container)
    except (ConfigError, UnknownField) as error:
        raise _failed(worker, container, "CreateContainerConfigError", str(error)) from error
    spec = _specify(worker, container, image, volumes)
    kind, began = _kind(worker, name), parts.clock.monotonic()
    try:
        made = await parts.runtime.create(spec)
    except RuntimeFailure as error:
        parts.tally.operation("create_container", parts.clock.monotonic() - began, failed=True)
        parts.tally.failed[kind, "CreateContainerError"] += 1
        raise _failed(worker, container, "CreateContainerError", str(error)) from error
    worker.narrator.container(container, "Normal", "Created", "Container created")
    created = parts.clock.monotonic()
    parts.tally.operation("create_container", created - began)
    try:
        started = await parts.runtime.start(made.id)
    except RuntimeFailure as error:
        parts.tally.operation("start_container", parts.clock.monotonic() - created, failed=True)
        parts.tally.failed[kind, "RunContainerError"] += 1
        _failed(worker, container, "RunContainerError", str(error))
        await _bury(worker, name, attempt_of(made, None, image), str(error))
        retry_at = parts.clock.now() + START_ERROR_S
        raise Held(Waiting("RunContainerError", str(error), retry_at)) from error
    worker.narrator.container(container, "Normal", "Started", "Container started")
    parts.tally.operation("start_container", parts.clock.monotonic() - created)
    parts.tally.containers[kind] += 1
    run = attempt_of(started, container, image)
    old = worker.record(name, run)
    if not run.restart_count and all(map(worker.state.last, _regular_names(worker))):
        _note_start(worker)
    if name in worker.state.allocated:
        worker.state.actuated[name] = container.get("resources") or {}
    if WHOLE_POD in worker.state.allocated:
        worker.state.actuated.setdefault(WHOLE_POD, worker.state.allocated[WHOLE_POD])
    # It may have ended before we had noted that it ran.
    now = parts.runtime.get(run.id)
    if now is not None and now.state.value == EXITED:
        worker.exited(now)
    for past in old:
        await _forget_run(worker, name, past)
    return run


def _note_start(worker: PodWorker) -> None:
    """All of the pod's containers have started for the first time (pod_startup_latency_tracker)."""
    state, tally, now = worker.state, worker.parts.tally, worker.parts.clock.now()
    tally.time(POD_START, max(0.0, now - state.started_at))
    created = state.pod["metadata"].get("creationTimestamp")
    if created and not is_static(state.pod):
        total = max(0.0, now - seconds_of(created))
        tally.time(POD_START_TOTAL, total)
        tally.time(POD_START_SLI, max(0.0, total - _prelude(worker)))


def _prelude(worker: PodWorker) -> float:
    """How long images were pulled or init containers ran, which counts once while it is both."""
    runs = [
        run
        for item in worker.state.spec.get("initContainers") or ()
        for run in worker.state.attempts.get(item["name"]) or ()
        if run.state == EXITED and not is_sidecar(item)
    ]
    spans = [(run.started_at, run.finished_at) for run in runs if run.started_at]
    until = took = 0.0
    for begin, end in sorted([*spans, worker.parts.pulls.span(worker.state.uid)]):
        took += max(0.0, end - max(begin, until))
        until = max(until, end)
    return took


def _kind(worker: PodWorker, name: str) -> str:
    """What sort of container it is, as the metrics call it."""
    if name in _regular_names(worker):
        return "container"
    extra = worker.state.spec.get("ephemeralContainers") or ()
    return "ephemeral_container" if any(name == it["name"] for it in extra) else "init_container"


def _regular_names(worker: PodWorker) -> list[str]:
    return [item["name"] for item in worker.state.spec["containers"]]


def _specify(
    worker: PodWorker,
    container: Mapping[str, Any],
    image: Image,
    volumes: Mapping[tuple[str, str], Path],
) -> ContainerSpec:
    """The container's whole configuration. Raises Held with CreateContainerConfigError."""
    parts, name = worker.parts, container["name"]
    last = worker.state.last(name)
    count = last.restart_count + 1 if last is not None else 0
    try:
        around, ipc = worker.sandbox.environment(), worker.sandbox.ipc
        place = Place(
            id=secrets.token_hex(32),
            restart_count=count,
            log_path=log_path(parts.config.data, worker.state.pod, name, count),
            termination_file=_termination_file(worker, name, count),
            network_namespace=worker.sandbox.namespace_path,
            etc_files=worker.sandbox.etc_files,
            volumes=volumes,
            devices=_devices(worker, container),
            pid_of_pod=_target_pid(worker, container),
            ipc_namespace=str(ipc.namespace) if ipc else "",
            shared_memory=_shared_memory(worker),
            ipc_of_pod=_debugged_pid(worker, container),
            user_namespace=_user_ids(worker),
            cpuset=_processors(worker, container),
        )
        place.log_path.parent.mkdir(parents=True, exist_ok=True)
        spec = container_spec(container, image, around, place, parts.machine)
        return _with_devices(worker, container, spec)
    except (ConfigError, UnknownField, OSError) as error:
        raise _failed(worker, container, "CreateContainerConfigError", str(error)) from error


def _with_devices(
    worker: PodWorker, container: Mapping[str, Any], spec: ContainerSpec
) -> ContainerSpec:
    """With the devices of the claims that the container names."""
    if not claims_devices(worker.state.pod):
        return spec
    from .dra.cdi import CdiError, applied, edits_of, read

    names = worker.parts.providers.claims().cdi_ids(worker.state.pod, container)
    try:
        return applied(spec, edits_of(names, read()) if names else ())
    except CdiError as error:
        raise ConfigError(str(error)) from error


def _target_pid(worker: PodWorker, container: Mapping[str, Any]) -> int:
    """The process whose PID namespace a container joins: the pod's, or that of a debugging
    container's target; 0 for one of its own."""
    if worker.state.spec.get("shareProcessNamespace"):
        from .pause import find_pause

        holder = find_pause(worker.parts, worker.state.uid)
        if holder is None:
            raise ConfigError("the process that holds the pod's namespace has ended")
        return holder.pid
    run = worker.state.last(container.get("targetContainerName") or "")
    found = worker.parts.runtime.get(run.id) if run is not None and run.id else None
    return found.pid if found is not None and found.state == State.RUNNING else 0


def _processors(worker: PodWorker, container: Mapping[str, Any]) -> str:
    """Those the container may run on; a pod that cannot have its own has failed."""
    try:
        return worker.parts.processors(worker, container)
    except NotEnough as error:
        text = f"Allocate failed due to {error}, which is unexpected"
        worker.fail("UnexpectedAdmissionError", f"Pod was rejected: {text}")
        raise ConfigError(text) from error


def _user_ids(worker: PodWorker) -> tuple[int, int] | None:
    """(first, how many) of the node's user ids that are the pod's."""
    if worker.state.spec.get("hostUsers") is not False:
        return None
    from .userids import COUNT, first_id

    folder = worker.parts.volumes.directory(worker.state.uid)
    return first_id(folder.parent, worker.state.uid, worker.parts.config.number), COUNT


def _shared_memory(worker: PodWorker) -> str:
    """What is mounted at /dev/shm, unless it is the container's own."""
    if worker.state.spec.get("hostIPC"):
        return SHM
    return str(worker.sandbox.ipc.memory) if worker.sandbox.ipc else ""


def _debugged_pid(worker: PodWorker, container: Mapping[str, Any]) -> int:
    """A process of the pod's only container, whose shared memory a debugging one sees too."""
    if worker.sandbox.ipc or container not in (worker.state.spec.get("ephemeralContainers") or ()):
        return 0
    run = worker.state.last(worker.state.spec["containers"][0]["name"])
    found = worker.parts.runtime.get(run.id) if run is not None and run.id else None
    return found.pid if found is not None and found.state == State.RUNNING else 0


def log_path(data: Path, pod: Mapping[str, Any], name: str, count: int) -> Path:
    """As upstream below /var/log/pods: NS_POD_UID/CONTAINER/COUNT.log."""
    meta = pod["metadata"]
    folder = f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
    return data / "logs" / folder / name / f"{count}.log"


def _termination_file(worker: PodWorker, name: str, count: int) -> Path:
    folder = worker.parts.volumes.directory(worker.state.uid) / "containers" / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{count}.message"
    path.write_bytes(b"")
    # The container may run as anybody.
    path.chmod(0o666)
    return path


async def _volumes(worker: PodWorker, container: Mapping[str, Any]) -> dict[tuple[str, str], Path]:
    """What each mount shows. Parts of volumes are opened in a thread: a file server may be silent.
    Raises ConfigError and UnknownField."""
    out: dict[tuple[str, str], Path] = {}
    mounts = container.get("volumeMounts") or ()
    own: dict[str, str] = {}
    if any(mount.get("subPathExpr") for mount in mounts):
        own = variables(container, worker.sandbox.environment())
    for index, mount in enumerate(mounts):
        volume, part = mount["name"], sub_path(mount, own)
        path = worker.sandbox.volumes.get(volume)
        if path is None:
            raise ConfigError(f'volume "{volume}" is not mounted')
        if part:
            where = f"{container['name']}/{index}"
            uid, bind = worker.state.uid, worker.parts.volumes.sub_path
            try:
                path = await asyncio.to_thread(bind, uid, (volume, path), part, where)
            except OSError as error:
                raise ConfigError(
                    f'failed to prepare subPath for volumeMount "{volume}" '
                    f'of container "{container["name"]}": {error}'
                ) from error
        out[volume, part] = path
    return out


def _devices(worker: PodWorker, container: Mapping[str, Any]) -> dict[str, Path]:
    """The device behind each of the container's volumeDevices. Raises ConfigError."""
    out: dict[str, Path] = {}
    for device in container.get("volumeDevices") or ():
        path = worker.sandbox.volumes.get(device["name"])
        if path is None:
            raise ConfigError(f'volume "{device["name"]}" is not mapped')
        out[device["name"]] = path
    return out


def _failed(worker: PodWorker, container: Mapping[str, Any], reason: str, text: str) -> Held:
    """Tell of the failure, and make what has the container wait."""
    worker.narrator.container(container, "Warning", "Failed", f"Error: {text}")
    return Held(Waiting(reason, text, worker.parts.clock.now() + RETRY_S))


async def _bury(worker: PodWorker, name: str, made: Attempt, text: str) -> None:
    """A container that could not start counts as a run that failed, as under containerd."""
    now = worker.parts.clock.now()
    failed = Attempt(
        id=made.id,
        restart_count=made.restart_count,
        state=EXITED,
        image=made.image,
        image_ref=made.image_ref,
        image_id=made.image_id,
        finished_at=now,
        exit_code=START_ERROR_EXIT,
        reason="StartError",
        message=text,
    )
    for past in worker.record(name, failed):
        await _forget_run(worker, name, past)
    try:
        await worker.parts.runtime.delete(made.id)
    except RuntimeFailure as error:
        log.warning("container %s: %s", made.id, error)


async def _forget_run(worker: PodWorker, name: str, past: Attempt) -> None:
    """Remove a run that is neither the last nor the one before, with all it said: upstream keeps no
    more."""
    if not past.id:
        return
    try:
        await worker.parts.runtime.delete(past.id)
    except RuntimeFailure as error:
        log.warning("container %s: %s", past.id, error)
    pod, count = worker.state.pod, past.restart_count
    path = log_path(worker.parts.config.data, pod, name, count)
    for file in (*rotated(path), path):
        file.unlink(missing_ok=True)


async def _post_start(
    worker: PodWorker, container: Mapping[str, Any], run: Attempt, hook: Mapping[str, Any]
) -> None:
    """Run the hook; a container whose hook fails is killed. A pod that is deleted meanwhile does
    not wait for it."""
    name, parts = container["name"], worker.parts
    target = Target(container, run.id, worker.sandbox.ip)
    worker.commit(name, stoppable=True)
    result = await run_hook(parts.runtime, parts.clock, target, hook)
    worker.commit(name)
    if result.good or worker.has_exited(name, run.id):
        return
    log.info("pod %s: container %s: post-start hook: %s", worker.state.uid, name, result.text)
    worker.narrator.container(container, "Warning", *POST_START_FAILED)
    await stop_container(worker, name, POST_START_FAILED[0], grace_of_restart(worker, name))
