"""One file per API verb: what get, list, watch, create, update, patch, delete do to the store."""
