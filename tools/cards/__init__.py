"""Cards of models and of the data, made from dvc.lock, params.yaml and metrics/."""
