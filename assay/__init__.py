"""The library: rooms that stages and tools import, each a folder with one subject; docs/architecture.md draws them."""
