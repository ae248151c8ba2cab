"""Label errors: out-of-fold models, scores of label quality."""
