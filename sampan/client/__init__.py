"""One client of the API with two transports (in-process, HTTP), and what is built on it:
informers, events, kubeconfig files.
"""
