"""Frozen sentence embeddings: the encoder, and the table that `embed` writes."""
