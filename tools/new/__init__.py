"""A fork's own data: from a file to a working `params.yaml`."""
