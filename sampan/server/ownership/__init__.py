"""Who owns which field: metadata.managedFields on every write, and server-side apply (KEP-555).

`fieldsets` is the algebra of sets of fields, `nodes`, `lists` and `plans` the schema compiled into
walks that compare, merge and prune, `entries` what is kept of a manager, `tracking` what an update
does to the entries, `applying` what an apply does, `recording` the seam to the writing verbs. Pure
but for `recording`: no I/O, and nobody's objects are changed.

Cost is what decides the shape of it: a write pays for what it changes, not for how much is owned
(docs/designs/006-ownership.md).
"""
