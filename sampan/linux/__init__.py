"""One function per kernel call: namespaces, mounts, cgroups, netlink, nftables."""
