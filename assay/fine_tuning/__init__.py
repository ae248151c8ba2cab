"""What both tracks share of fine-tuning: adapters, their params, 4-bit quantization."""
