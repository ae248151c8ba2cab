"""Near-duplicates by MinHash, semantic duplicates by cosine similarity, and the groups that they form."""
