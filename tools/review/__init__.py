"""The local page on which people review rows and answers."""
