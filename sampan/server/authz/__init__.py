"""May they: RBAC, and the few paths open to everybody."""
