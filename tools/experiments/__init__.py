"""Experiments beside the pipeline: what intervals cover, what sizes of data take."""
