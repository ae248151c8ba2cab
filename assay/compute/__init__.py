"""Where and how models run: device and precision, batches of tokens, memory and size."""
