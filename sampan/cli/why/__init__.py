"""`sampan why`: why something is not as it should be, in plain words, from what the cluster stores.

`gathering` fetches objects and events into `Facts`; `FINDERS` (in `finding`) is a table of small
pure functions, facts in and findings out; `showing` prints them. Nothing here changes the cluster.
"""
