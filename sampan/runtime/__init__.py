"""Images, snapshots, bundles and containers, after OCI. It knows no pods."""
