"""Examples, and the busybox root their images are made from."""
