"""Redaction: rules that find personal data and replace it by placeholders, and the benchmark that scores them."""
