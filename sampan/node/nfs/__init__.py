"""NFS volumes: the kernel's own client where there is one, else libnfs behind FUSE.

`shares` is the agent's side: one mount per server, path and options, bound into every pod that uses
it. `python -m sampan.node.nfs` serves one share by FUSE (`files` over `library`); it lives as long
as its mount does, whatever becomes of the agent.
"""
