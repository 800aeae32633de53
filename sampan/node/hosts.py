"""The files a pod finds in /etc: hosts, hostname, resolv.conf. Pure texts, as kubelet writes them.

pkg/kubelet/kubelet_pods.go (hosts), pkg/kubelet/network/dns (resolv.conf).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

NAMESERVERS_MAX = 3
SEARCHES_MAX = 32
HOSTNAME_MAX = 63
FQDN_MAX = 64
CLUSTER_OPTIONS = ("ndots:5",)
LOOPBACK_LINES = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


class Resolver(Struct, frozen=True):
    """The contents of a resolv.conf."""

    nameservers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()

    def text(self) -> str:
        lines = []
        if self.searches:
            lines.append(f"search {' '.join(self.searches)}\n")
        lines += [f"nameserver {address}\n" for address in self.nameservers]
        if self.options:
            lines.append(f"options {' '.join(self.options)}\n")
        return "".join(lines)


def parse_resolver(text: str) -> Resolver:
    """The host's own resolv.conf; the last search line counts."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if not words:
            continue
        if words[0] == "nameserver" and len(words) > 1:
            nameservers.append(words[1])
        elif words[0] == "search":
            searches = [word for word in words[1:] if word != "."]
        elif words[0] == "options":
            options = words[1:]
    return Resolver(nameservers, searches, options)


def resolver(pod: Mapping[str, Any], host: Resolver, dns_ip: str, domain: str) -> Resolver:
    """What the pod's dnsPolicy and dnsConfig make of the host's and the cluster's."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "None":
        base = Resolver()
    elif policy == "Default" or not dns_ip:
        base = host
    else:
        own = [f"{pod['metadata']['namespace']}.svc.{domain}", f"svc.{domain}", domain]
        base = Resolver([dns_ip], _unique([*own, *host.searches]), CLUSTER_OPTIONS)
    more = spec.get("dnsConfig") or {}
    options = _merge_options(base.options, more.get("options") or ())
    return Resolver(
        _unique([*base.nameservers, *(more.get("nameservers") or ())])[:NAMESERVERS_MAX],
        _unique([*base.searches, *(more.get("searches") or ())])[:SEARCHES_MAX],
        options,
    )


def _merge_options(base: Sequence[str], more: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {option.partition(":")[0]: option for option in base}
    for option in more:
        text = option["name"]
        if option.get("value"):
            text += f":{option['value']}"
        found[option["name"]] = text
    return list(found.values())


def _unique(items: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(items))


def names(pod: Mapping[str, Any], domain: str) -> tuple[str, str]:
    """Host name and domain: (spec.hostname or the pod's name, SUBDOMAIN.NS.svc.DOMAIN or "")."""
    spec, meta = pod["spec"], pod["metadata"]
    if spec.get("hostnameOverride"):
        # KEP-4762: as it stands, and without a domain.
        return spec["hostnameOverride"], ""
    host = (spec.get("hostname") or meta["name"])[:HOSTNAME_MAX].rstrip("-.")
    subdomain = spec.get("subdomain", "")
    return host, f"{subdomain}.{meta['namespace']}.svc.{domain}" if subdomain else ""


def hostname(pod: Mapping[str, Any], domain: str) -> str:
    """What the kernel is told in the pod's UTS namespace. Raises ValueError when that is longer
    than the kernel can hold."""
    host, full = names(pod, domain)
    if not pod["spec"].get("setHostnameAsFQDN") or not full:
        return host
    name = f"{host}.{full}"
    if len(name) > FQDN_MAX:
        raise ValueError(
            "failed to construct FQDN from pod hostname and cluster domain, "
            f"FQDN {name} is too long ({FQDN_MAX} characters is the max, "
            f"{len(name)} characters requested)"
        )
    return name


def hosts_text(pod: Mapping[str, Any], ips: Sequence[str], domain: str, node_hosts: str) -> str:
    """/etc/hosts; `node_hosts` is the node's own, for pods of the host's network."""
    host, full = names(pod, domain)
    if pod["spec"].get("hostNetwork"):
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
    else:
        text = "# Kubernetes-managed hosts file.\n" + LOOPBACK_LINES
        for ip in ips:
            text += f"{ip}\t{host}.{full}\t{host}\n" if full else f"{ip}\t{host}\n"
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += "\t".join([alias["ip"], *(alias.get("hostnames") or ())]) + "\n"
    return text
