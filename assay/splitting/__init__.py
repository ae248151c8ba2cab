"""The split: each group of rows to train, validation or test by a hash of its key."""
