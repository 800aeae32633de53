"""The vocabulary: metadata, errors, selectors, schema, kinds. No I/O of any kind."""
