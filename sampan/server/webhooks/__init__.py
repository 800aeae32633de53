"""Calls out of the API server: HTTPS to admission, conversion and authorisation webhooks, and to
extension API servers. It knows nothing of what is called for; it opens no listening socket.

The client is our own on httptools, which the server has loaded anyway: aiohttp would cost a tenth
of the boot and 12 MB for what one protocol class does.
"""
