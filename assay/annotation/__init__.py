"""Annotators: agreement coefficients, consensus labels, the quality of each annotator."""
