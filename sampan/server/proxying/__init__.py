"""Passing requests on to a backend, streamed both ways: what proxy subresources are made of.

`relay.relay(request, target)` is the way in. Nothing here knows objects, users or rights.
"""
