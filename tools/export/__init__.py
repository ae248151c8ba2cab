"""Models in other forms: merged, safetensors and GGUF, ONNX."""
