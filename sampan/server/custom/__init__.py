"""Custom resources: from a stored CustomResourceDefinition to descriptors that are served as
built-in ones are. What a schema means is in `api.structural`; verbs, watches, tables and discovery
know nothing of this package but `Descriptor.structure` and `Descriptor.custom`.
"""
