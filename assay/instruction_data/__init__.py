"""Chats for instruction tuning: formats of files, cleaning, retrieval, context, distractors."""
