"""`python watching.py CLIENT NAMESPACE`: print `TYPE NAME VERSION` of every event of its config
maps, as the Python kubernetes client (`kubernetes`) or our own reflector (`sampan`) tells of them,
until one of the name "end" comes. A connection that breaks is opened again where it was."""

import asyncio
import os
import sys
import time
from pathlib import Path

KIND, NAMESPACE = sys.argv[1:]
GONE_S = 0.05
"""Between attempts to reach a server that is away."""


def tell(kind: str, name: str, version: str) -> bool:
    print(kind, name, version, flush=True)
    return name == "end"


def with_kubernetes() -> None:
    from kubernetes import client, config, watch
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    config.load_kube_config()
    core = client.CoreV1Api()
    watcher = watch.Watch()
    watcher.resource_version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    print("LISTED - 0", flush=True)
    while True:
        try:
            stream = watcher.stream(
                core.list_namespaced_config_map, NAMESPACE,
                resource_version=watcher.resource_version,
            )  # fmt: skip
            for event in stream:
                meta = event["object"].metadata
                if tell(event["type"], meta.name, meta.resource_version):
                    return
        except (HTTPError, ApiException) as error:
            print("BROKEN", type(error).__name__, 0, flush=True)
            # Nothing but what it knows itself may bring it back: no new list.
            time.sleep(GONE_S)


async def with_sampan() -> None:
    from sampan.api.resources import builtin
    from sampan.client.api import Client
    from sampan.client.http import HttpTransport
    from sampan.client.informer import Informer
    from sampan.client.kubeconfig import read

    resource = next(item for item in builtin() if item.plural == "configmaps")
    transport = HttpTransport.from_access(read(Path(os.environ["KUBECONFIG"])))
    informer = Informer(Client(transport), resource, (NAMESPACE, "", ""))
    ended = asyncio.Event()

    def seen(old: object, new: object) -> None:
        obj = new or old
        assert isinstance(obj, dict)
        kind = "DELETED" if new is None else "MODIFIED" if old else "ADDED"
        version = obj["metadata"]["resourceVersion"]
        if tell(kind, obj["metadata"]["name"], "?" if new is None else version):
            ended.set()

    task = asyncio.create_task(informer.run())
    await informer.synced()
    print("LISTED - 0", flush=True)
    informer.on_change(seen)
    await ended.wait()
    task.cancel()
    # One list in all: it was never told to begin anew.
    print("LISTS", informer.lists, informer.dropped, flush=True)
    await transport.close()


if KIND == "kubernetes":
    with_kubernetes()
else:
    asyncio.run(with_sampan())
