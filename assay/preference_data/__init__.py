"""Preference pairs: a better and a worse answer to one prompt."""
