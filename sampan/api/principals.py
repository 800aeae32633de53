"""Users and groups that the API itself knows by name (upstream's pkg/authentication/user).

Every request has a user who is in one of `EVERYBODY`; whoever is in `MASTERS` may do everything.
"""

from __future__ import annotations

from typing import Final

ANONYMOUS: Final = "system:anonymous"
"""The user of a request without credentials."""
AUTHENTICATED: Final = "system:authenticated"
UNAUTHENTICATED: Final = "system:unauthenticated"
EVERYBODY: Final = (UNAUTHENTICATED, AUTHENTICATED)
MASTERS: Final = "system:masters"
