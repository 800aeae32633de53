"""A revisioned key-value store with watch, after etcd's model. Bytes only; it knows no kinds."""
