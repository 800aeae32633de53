"""Where a pod's containers live: its network, its volumes, its files in /etc.

`prepare` does everything at once (address, objects, tokens) and can be repeated: what is there
stays. `refresh` brings volumes up to date after a ConfigMap, Secret or token has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from sampan.aio.backoff import Backoff
from sampan.api.errors import Object, StatusError
from sampan.linux.openat2 import read_in_root
from sampan.runtime.interface import RuntimeFailure

from .claims import Found, find_volumes, is_local
from .downward import Facts
from .envfile import FILE_MAX
from .environment import Environment, linked_services
from .hosts import hostname, hosts_text, resolver
from .imagevolumes import mount_images
from .narration import Narrator
from .objects import BUNDLES, references
from .parts import Parts
from .providers import claims_devices
from .pulls import Held
from .state import Waiting
from .timings import RUN_SANDBOX
from .volumes.place import has_mounts
from .volumes.plugins import MADE_ANEW, UNMOUNT, plugin_of
from .volumes.projected import wanted_tokens
from .volumes.shared import SharedIpc, share_ipc, shares_ipc
from .volumes.source import NotYet, Sources, Token, VolumeError

log = logging.getLogger("sampan.node.sandbox")

NOT_MADE = "FailedCreatePodSandBox"
ETC = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
# After a failure that no watch will end (the network, the server) we try again: upstream's figures
# for volumes, durationBeforeRetry 0.5 s to 2 min 2 s.
RETRY_INITIAL_S = 0.5
RETRY_CAP_S = 122.0
# How long attaching a volume may take before it is told of (podAttachAndMountTimeout).
ATTACH_PATIENCE_S = 123.0
# A token that could not be renewed is asked for again after this long.
RENEW_AGAIN_S = 30.0


class Sandbox:
    """One pod's. `changed` is called when an object it uses has changed."""

    def __init__(
        self, parts: Parts, pod: Object, narrator: Narrator, changed: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._narrator = narrator
        self._changed = changed
        self.pod = pod
        self.ip, self.other_ip = "", ""
        self.namespace_path = ""
        self.volumes: dict[str, Path] = {}
        self.etc_files: dict[str, Path] = {}
        self.ipc: SharedIpc | None = None
        self.ready = False
        self.stays = False
        """Its network could not be given back."""
        self._tokens: dict[tuple[str, int], Token] = {}
        self._found = Found()
        self._waits_since = 0.0
        self._complained = ""
        self._backoff = Backoff(RETRY_INITIAL_S, RETRY_CAP_S, jitter=0)

    @property
    def uid(self) -> str:
        uid: str = self.pod["metadata"]["uid"]
        return uid

    @property
    def refresh_at(self) -> float:
        """When the first token wants to be renewed, or a volume to be published again; 0: never."""
        times = [token.refresh_at for token in self._tokens.values()]
        if self._found.next_at:
            times.append(self._found.next_at)
        return min(times, default=0)

    async def prepare(self) -> None:
        """Raises Held when something is missing; the next call goes on from there."""
        began, tally = self._parts.clock.monotonic(), self._parts.tally
        await self._prepare()
        tally.pods += 1
        tally.time(RUN_SANDBOX, self._parts.clock.monotonic() - began, self._handler)

    @property
    def _handler(self) -> str:
        name: str = self.pod["spec"].get("runtimeClassName") or ""
        return name

    async def _prepare(self) -> None:
        self._hold()
        if self._handler:
            await self._check_handler()
        if claims_devices(self.pod):
            await self._prepare_devices()
        attaching = asyncio.ensure_future(self._attach())
        try:
            # Volumes know nothing of the network, so both are made at the same time.
            await self._gather_inputs()
            if any("image" in volume for volume in self.pod["spec"].get("volumes") or ()):
                await mount_images(self._parts, self.pod, await self.pull_secrets())
            self.volumes = self._set_up()
            await attaching
            if not self.etc_files:
                self.etc_files = self._write_etc()
            if self.ipc is None and shares_ipc(self.pod):
                folder = self._parts.volumes.directory(self.uid)
                self.ipc = await asyncio.to_thread(share_ipc, folder, self._parts.kernel)
            if self.pod["spec"].get("shareProcessNamespace"):
                await self._share_processes()
        except VolumeError as error:
            # A watch tells when what is missing has come; anything else is tried again.
            raise self._held("FailedMount", str(error)) from error
        except (OSError, ValueError, RuntimeFailure) as error:
            text = f"Failed to create pod sandbox: {error}"
            raise self._held(NOT_MADE, text) from error
        finally:
            await asyncio.gather(attaching, return_exceptions=True)
        self._complained = ""
        self._backoff.reset()
        self.ready = True

    async def _check_handler(self) -> None:
        from .handlers import NoHandler, check_handler

        try:
            await check_handler(self._parts.client, self.pod)
        except (NoHandler, StatusError, OSError) as error:
            text = f"Failed to create pod sandbox: {error}"
            raise self._held(NOT_MADE, text) from error

    async def _prepare_devices(self) -> None:
        from .dra.plugins import PluginError

        try:
            await self._parts.providers.claims().prepare(self.pod)
        except (PluginError, StatusError, OSError) as error:
            text = f"Failed to prepare dynamic resources: prepare dynamic resources: {error}"
            raise self._held("FailedPrepareDynamicResources", text) from error

    async def _gather_inputs(self) -> None:
        """What volumes and variables are made from. Raises Held."""
        done = await asyncio.gather(
            self._renew(),
            self._find_volumes(),
            self._parts.objects.synced(self.uid),
            self._parts.services.synced(),
            return_exceptions=True,
        )
        for result in done:
            if isinstance(result, BaseException):
                raise result

    def refresh(self) -> None:
        """Write what has changed into the volumes; what is missing now keeps its old content."""
        if not self.ready:
            return
        try:
            self._set_up()
            self._complained = ""
        except VolumeError as error:
            self._complain("FailedMount", str(error))

    async def renew(self) -> None:
        """Get new tokens for those that are due, and write them."""
        try:
            await self._renew()
            await self._find_volumes()
        except Held as error:
            log.info("pod %s: %s", self.uid, error)
            late = self._parts.clock.now() + RENEW_AGAIN_S
            self._found.again = {
                name: max(at, late) if at else at for name, at in self._found.again.items()
            }
            self._tokens = {
                key: Token(token.text, max(token.refresh_at, late))
                for key, token in self._tokens.items()
            }
        self.refresh()

    def outdate(self) -> None:
        """The clock went back: tokens of a time that has yet to come are nobody's until then."""
        now = self._parts.clock.now()
        self._tokens = {
            key: Token(token.text, min(now, token.refresh_at), token.expires)
            for key, token in self._tokens.items()
        }

    async def _share_processes(self) -> None:
        from .pause import ensure_pause

        try:
            await ensure_pause(self._parts, self.pod, self.namespace_path)
        except RuntimeFailure as error:
            text = f"Failed to create pod sandbox: {error}"
            raise self._held(NOT_MADE, text) from error

    async def remove(self, *, volumes: bool) -> None:
        """Give the network back, and the volumes when nothing can use them any more."""
        self._parts.objects.release(self.uid)
        self._tokens.clear()
        self.ready = False
        if claims_devices(self.pod):
            await self._parts.providers.give_back(self.uid)
        if self.pod["spec"].get("shareProcessNamespace"):
            from .pause import remove_pause

            with suppress(RuntimeFailure):
                await remove_pause(self._parts, self.uid)
        try:
            await self._parts.network.detach(self.uid)
        except OSError as error:
            self.stays = True
            log.warning("pod %s: its network stays: %s", self.uid, error)
        if volumes:
            mounts = has_mounts(self.pod) or shares_ipc(self.pod)
            began = perf_counter()
            await self._parts.volumes.remove(self.uid, mounts=mounts)
            # They go together: each took as long as all.
            for plugin in self.plugins().values():
                self._parts.tally.store(plugin, UNMOUNT, perf_counter() - began, True)

    def _set_up(self) -> dict[str, Path]:
        """Make the volumes, or make them anew of what has changed. Raises VolumeError."""
        return self._parts.volumes.set_up(self.sources(), self._found.paths, self._note)

    def _note(self, plugin: str, operation: str, seconds: float, good: bool) -> None:
        if not self.ready or plugin in MADE_ANEW:
            self._parts.tally.store(plugin, operation, seconds, good)

    def plugins(self) -> dict[str, str]:
        """Volume -> what is behind it, in upstream's words."""
        return {
            volume["name"]: self._found.plugins.get(volume["name"]) or plugin_of(volume)
            for volume in self.pod["spec"].get("volumes") or ()
        }

    def sources(self) -> Sources:
        bundles = self._parts.objects.list(BUNDLES)
        return Sources(self._facts(), self._lookup, self._tokens, bundles)

    def environment(self) -> Environment:
        namespace = self.pod["metadata"]["namespace"]
        links = self.pod["spec"].get("enableServiceLinks", True)
        # The namespace's own services, and `kubernetes`, which every pod is told of.
        services = self._parts.services.list(namespace)
        master = self._parts.services.get("default", "kubernetes")
        if master is not None and namespace != "default":
            services.append(master)
        linked = linked_services(services, namespace, links)
        return Environment(self._facts(), self._lookup, linked, self._read)

    def _read(self, volume: str, path: str) -> bytes:
        """A file of a volume that its containers have filled: no link of theirs leads out."""
        return read_in_root(self.volumes[volume], path, FILE_MAX)

    async def pull_secrets(self) -> list[Object]:
        """Those there are, once it is known what there is; those that are missing are told of."""
        self._hold()
        await self._parts.objects.synced(self.uid)
        names = [item.get("name", "") for item in self.pod["spec"].get("imagePullSecrets") or ()]
        found = [self._lookup("secrets", name) for name in names]
        missing = [name for name, secret in zip(names, found, strict=True) if secret is None]
        if missing:
            self._narrator.pod(
                "Warning",
                "FailedToRetrieveImagePullSecret",
                f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting "
                "to pull the image may not succeed.",
            )
        return [secret for secret in found if secret is not None]

    def _hold(self) -> None:
        self._parts.objects.hold(self.uid, references(self.pod), self._changed)

    def _facts(self) -> Facts:
        parts = self._parts
        ip = parts.config.address if self.pod["spec"].get("hostNetwork") else self.ip
        ips = self.ips if ip == self.ip else parts.config.addresses_of(ip)
        host = parts.config
        return Facts(self.pod, ip, host.address, parts.allocatable, ips, host.addresses)

    @property
    def ips(self) -> list[str]:
        """All addresses: a pod network has said both, or the second follows from the first."""
        if self.other_ip:
            return [self.ip, self.other_ip]
        return self._parts.config.addresses_of(self.ip)

    def addresses(self, ip: str, known: Object) -> list[str]:
        """As `ips`, of a pod with the first address `ip`, also when its network is gone or was not
        looked at yet: then as its status `known` has them."""
        if not self.ip and ip and ip == known.get("podIP"):
            return [item["ip"] for item in known.get("podIPs") or ({"ip": ip},)]
        return self.ips if self.ip else self._parts.config.addresses_of(ip)

    def _lookup(self, plural: str, name: str) -> Object | None:
        return self._parts.objects.get(plural, self.pod["metadata"]["namespace"], name)

    async def _attach(self) -> None:
        if self.ip:
            return
        if self.pod["spec"].get("hostNetwork"):
            self.ip = self._parts.config.address
            return
        try:
            address = await self._parts.network.attach(self.uid)
        except Exception as error:
            text = f"Failed to create pod sandbox: {error}"
            raise self._held(NOT_MADE, text) from error
        self.namespace_path = str(address.namespace_path)
        self.ip, self.other_ip = address.ip, address.other_ip

    async def _renew(self) -> None:
        now = self._parts.clock.now()
        for key in wanted_tokens(self.pod):
            have = self._tokens.get(key)
            if have is not None and now < have.refresh_at:
                continue
            try:
                self._tokens[key] = await self._parts.tokens.request(self.pod, *key)
            except (StatusError, OSError) as error:
                volume = self._token_volume()
                text = (
                    f'MountVolume.SetUp failed for volume "{volume}" : '
                    f"failed to fetch token: {error}"
                )
                raise self._held("FailedMount", text) from error

    def _token_volume(self) -> str:
        return next(
            (
                str(volume["name"])
                for volume in self.pod["spec"].get("volumes") or ()
                for source in (volume.get("projected") or {}).get("sources") or ()
                if source.get("serviceAccountToken") is not None
            ),
            "",
        )

    async def _find_volumes(self) -> None:
        parts = self._parts
        try:
            now = parts.clock.now()
            found, note = self._found, parts.tally.store
            await find_volumes(parts.client, parts.providers, self.pod, found, now, note=note)
        except NotYet as error:
            now = parts.clock.now()
            self._waits_since = self._waits_since or now
            if now - self._waits_since < ATTACH_PATIENCE_S:
                raise self._wait() from error
            names = " ".join(
                volume["name"]
                for volume in self.pod["spec"].get("volumes") or ()
                if volume["name"] not in self._found.paths and not is_local(self.pod, volume)
            )
            text = (
                f"Unable to attach or mount volumes: unmounted volumes=[{names}], unattached "
                f"volumes=[{names}], failed to process volumes=[]: context deadline exceeded"
            )
            raise self._held("FailedMount", text) from error
        except VolumeError as error:
            raise self._held(error.reason, str(error)) from error

    def _write_etc(self) -> dict[str, Path]:
        parts, pod = self._parts, self.pod
        folder = parts.volumes.directory(self.uid) / "etc"
        folder.mkdir(exist_ok=True, mode=0o755)
        domain = parts.config.cluster_domain
        shared = bool(pod["spec"].get("hostNetwork"))
        node_hosts = Path("/etc/hosts").read_text(errors="replace") if shared else ""
        name = Path("/etc/hostname").read_text().strip() if shared else hostname(pod, domain)
        resolv = resolver(pod, parts.host_resolver, parts.config.dns_ip, domain)
        texts = (hosts_text(pod, self.ips, domain, node_hosts), f"{name}\n", resolv.text())
        out = {}
        for target, text in zip(ETC, texts, strict=True):
            path = folder / target.rpartition("/")[2]
            path.write_text(text)
            path.chmod(0o644)
            out[target] = path
        return out

    def _held(self, reason: str, text: str) -> Held:
        self._complain(reason, text)
        if reason == NOT_MADE:
            self._parts.tally.failed_sandboxes[self._handler] += 1
        return self._wait()

    def _wait(self) -> Held:
        """To be tried again after a while that doubles."""
        plain = "PodInitializing" if self.pod["spec"].get("initContainers") else "ContainerCreating"
        return Held(Waiting(plain, "", self._parts.clock.now() + self._backoff.next_s()))

    def _complain(self, reason: str, text: str) -> None:
        """One event for one trouble, however often it is tried again."""
        self._parts.tally.failed_pods += 1
        if text != self._complained:
            self._complained = text
            self._narrator.pod("Warning", reason, text)
