"""Saved classifiers in use: labels for texts as they come, with a probability and whether it is sure enough.

The one import is what people write who use a model and read no code: `from assay.inference import load`.
"""

from assay.inference.classifier import load as load
