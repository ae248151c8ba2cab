"""Properties of a text: its language, its length in tokens, and a cheap prefilter for costly rules."""
