"""Models in other forms: merged, safetensors, ONNX."""
