"""What keeps containers from starting: images, configuration, volumes, the sandbox. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .containers import NEVER_RAN, Container, containers_of, upper
from .facts import Facts, Finding, said


class Pull(NamedTuple):
    cause: str
    marks: re.Pattern[str]
    text: str
    fix: str


PULLS = (
    Pull(
        "image/unauthorized",
        re.compile(r"unauthorized|authentication required|denied|403|401", re.I),
        "the registry does not let the node have it",
        "Name a Secret of type kubernetes.io/dockerconfigjson in spec.imagePullSecrets, or check "
        "the one that is named.",
    ),
    Pull(
        "image/not-found",
        re.compile(r"not found|manifest unknown|404|no such(?! host)", re.I),
        "there is no such image",
        "Check the name and tag of {image}; sampan image ls shows what the node has, and "
        "sampan image load FILE brings one from an archive.",
    ),
    Pull(
        "image/unreachable",
        re.compile(
            r"timeout|timed out|refused|no such host|resolve|unreachable|Cannot connect"
            r"|Name or service",
            re.I,
        ),
        "the registry cannot be reached",
        "Check the registry's name and the node's network; sampan image load FILE needs neither.",
    ),
    Pull(
        "image/certificate",
        re.compile(r"x509|certificate|TLS", re.I),
        "the registry's certificate is not trusted",
        "Give the node the registry's CA, or use one that is publicly trusted.",
    ),
)


def image(facts: Facts) -> Iterator[Finding]:
    for item in containers_of(facts):
        reason, message = item.waiting.get("reason"), item.waiting.get("message") or ""
        name = item.spec.get("image", "")
        if reason == "InvalidImageName":
            yield Finding(
                "image/invalid-name",
                f"The image of {item.word} has no valid name.",
                [f"image: {name}", message],
                [
                    f"Its letters have to be small: {name.lower()}."
                    if "must be lowercase" in message
                    else f"Write {name!r} as registry/path:tag."
                ],
            )
        elif reason == "ErrImageNeverPull":
            yield Finding(
                "image/never-pulled",
                f"The image of {item.word} is not on the node, and may not be pulled.",
                [f"imagePullPolicy: Never, image: {name}"],
                ["Load it (sampan image load FILE), or use IfNotPresent."],
            )
        elif reason in ("ErrImagePull", "ImagePullBackOff"):
            yield _pull(facts, item, name, message)


def _pull(facts: Facts, item: Container, name: str, message: str) -> Finding:
    failed = [
        event
        for event in facts.events
        if event.get("reason") == "Failed" and name in (event.get("message") or "")
    ]
    # The container's message mostly repeats what the event told.
    told = (
        [message]
        if message and "ErrImagePull: " in message
        else [
            *filter(None, [message]),
            *(said(event) for event in failed[-1:]),
        ]
    )
    whole = " ".join(told)
    for entry in PULLS:
        if entry.marks.search(whole.replace(name, "")):
            return Finding(
                entry.cause,
                f"The image of {item.word} cannot be pulled: {entry.text}.",
                [f"image: {name}", *told],
                [entry.fix.format(image=name)],
            )
    return Finding(
        "image/pull",
        f"The image of {item.word} cannot be pulled.",
        [f"image: {name}", *told],
        [f"Check {name}, the registry, and spec.imagePullSecrets."],
    )


# Starting


def configuration(facts: Facts) -> Iterator[Finding]:
    for item in containers_of(facts):
        message = item.waiting.get("message") or ""
        if item.waiting.get("reason") == "CreateContainerConfigError" and "run as root" in message:
            yield Finding(
                "container/root",
                f"{item.word[:1].upper()}{item.word[1:]} may not run as root, and would.",
                [message],
                ["Set securityContext.runAsUser to another user than 0, one that the image knows."],
            )
        elif item.waiting.get("reason") == "CreateContainerConfigError":
            found = re.search(r'(configmap|secret) "([^"]+)" not found', message, re.I)
            key = re.search(r"couldn't find key (\S+)", message)
            fix = "Mend what the container's env, envFrom or securityContext names."
            if found:
                what = f"{found[1].lower()} {found[2]}"
                fix = f"Create the {what} in this namespace, or mark the reference optional."
            elif key:
                fix = f"Add the key {key[1]}, or mark the reference optional."
            yield Finding(
                "container/config",
                f"The configuration of {item.word} is not there.",
                [message],
                [fix],
            )
        elif item.waiting.get("reason") in (
            "CreateContainerError",
            "RunContainerError",
            "StartError",
        ):
            yield _start_error(item, message)
        elif not item.running and item.ended.get("reason") == NEVER_RAN:
            yield _start_error(item, item.ended.get("message") or "")


def _start_error(item: Container, message: str) -> Finding:
    command = [*(item.spec.get("command") or ()), *(item.spec.get("args") or ())]
    fix = "Mend what the message names."
    if re.search(r"no such file|not found|executable file", message, re.I):
        fix = (
            f"The image has no {command[0]!r}: correct spec.containers[].command."
            if command
            else "The image's own command is not in it: set command."
        )
    elif "permission denied" in message.lower():
        fix = "The command is not executable for the container's user."
    return Finding(
        "container/start",
        f"{upper(item.word)} cannot be started.",
        [message or str(item.waiting.get("reason"))],
        [fix],
    )


def sandbox(facts: Facts) -> Iterator[Finding]:
    """What the node could not do before any container."""
    if any(item.running for item in containers_of(facts)):
        return
    mount = facts.event("FailedMount", "FailedAttachVolume", "FailedMapVolume")
    if mount:
        missing = re.search(
            r'(configmap|secret|persistentvolumeclaim) "([^"]+)" not found',
            mount.get("message") or "",
            re.I,
        )
        fix = (
            f"Create the {missing[1].lower()} {missing[2]}, or mark the volume optional."
            if missing
            else "Mend what the event names; the node tries again by itself."
        )
        yield Finding("volume/mount", "Its volumes cannot be mounted.", [said(mount)], [fix])
    device = facts.event("FailedPrepareDynamicResources")
    if device:
        driver = re.search(r"DRA driver (\S+) is not registered", device.get("message") or "")
        fix = (
            f"Run the driver {driver[1]} on node {facts.spec.get('nodeName')}: it registers there."
            if driver
            else "Mend what the event names; the node tries again by itself."
        )
        text = "The devices of its claims cannot be prepared."
        yield Finding("devices/prepare", text, [said(device)], [fix])
    made = facts.event("FailedCreatePodSandBox")
    if made:
        yield Finding(
            "sandbox",
            "The node could not make its network or namespaces.",
            [said(made)],
            ["The node's log says more: sampan logs node."],
        )
