"""What `make repro` does around DVC."""
