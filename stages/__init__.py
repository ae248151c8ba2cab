"""The stages of dvc.yaml, one module each: read params and inputs, call the library, write outputs."""
