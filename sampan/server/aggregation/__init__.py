"""API aggregation: APIServices, whether their servers are there, and requests passed on to them.

Nothing here runs while every APIService is local: a request then costs one look at an empty
dictionary.
"""
