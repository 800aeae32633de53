"""May this user do this? The node authoriser for nodes, RBAC for everybody.

It decides; it changes nothing and waits for nothing. `rules` matches, `grants` indexes, `nodes` and
`nodegraph` answer for nodes, `authorizer` decides, `escalation` keeps users from granting what they
do not hold, `policy`, `roles` and `controller_roles` are the default roles and bindings as data.
"""

from __future__ import annotations

from .authorizer import Authorizer

__all__ = ["Authorizer"]
