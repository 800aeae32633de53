"""The kinds, one file each below their group's folder; `table` lists them."""
