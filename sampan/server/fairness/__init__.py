"""API priority and fairness (KEP-1040): one greedy client does not slow the others.

FlowSchemas say which flow of which priority level a request belongs to. Two things are shared out:
seats, for requests that wait for something (writes, webhooks, other servers), and turns of the
event loop, for what is answered at once. While there is enough of both, a request pays for one
look-up; else it waits in a queue of its level, chosen by shuffle sharding, and levels and queues
are served by start-time fair queueing on what they really cost (docs/designs/009).
"""
