"""Volumes of a pod: one file per type; `mounts` puts them where containers find them.

Types that carry data from the API (`keyed`, `downward`, `projected`) are pure functions to files,
which `atomic` writes; types that are a directory (`empty_dir`, `host_path`, `claim`) make it.
"""
