"""What a language model keeps of single rows: canaries planted in its training, and their exposure."""
