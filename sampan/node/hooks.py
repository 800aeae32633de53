"""What a container asks to be done after its start and before its stop (lifecycle hooks).

pkg/kubelet/lifecycle. A hook by HTTP has done its work once it was answered, whatever the status;
events do not say why a hook failed, as its answer may hold secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.aio.clock import Clock
from sampan.runtime.interface import Runtime

from .looks import HOOK_AGENT, Look, Target, ask_by_http, look

POST_START_FAILED = ("FailedPostStartHook", "PostStartHook failed")
PRE_STOP_FAILED = ("FailedPreStopHook", "PreStopHook failed")


def hook_of(container: Mapping[str, Any], when: str) -> Mapping[str, Any]:
    """The container's `postStart` or `preStop`; empty without one."""
    hook: Mapping[str, Any] = (container.get("lifecycle") or {}).get(when) or {}
    return hook


async def run_hook(runtime: Runtime, clock: Clock, target: Target, hook: Mapping[str, Any]) -> Look:
    """Until it has done its work; whoever waits says for how long, by cancelling."""
    if hook.get("sleep"):
        await clock.sleep(float(hook["sleep"].get("seconds") or 0))
        return Look(True)
    if hook.get("httpGet"):
        status, text = await ask_by_http(target, hook["httpGet"], None, HOOK_AGENT)
        return Look(True) if status else Look(False, text)
    return await look(runtime, target, hook, None)
