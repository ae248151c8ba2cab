"""Other people's files: archives, tables, GGUF models, and where each row comes from."""
