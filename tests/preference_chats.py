"""Rows of the chat table that preference pairs are made of."""

from typing import Any

from tests.policy_workspace import GREEDY

REFUSAL = "I do not know."
BASE_ANSWER: dict[str, Any] = {"train_prompts": 3, "held_out_prompts": 2, "max_similarity": 0.9, "decoding": GREEDY}


def chat(
    number: int, category: str = "roof", task: str = "answer", answer: str | None = None, passages: int = 0
) -> dict[str, Any]:
    """A row of the chat table; its passages are the answers of the rows after it, and its own where it has one."""
    row_id = f"faq:{number}" + ("#unanswerable" if task == "unanswerable" else "")
    text = answer or (REFUSAL if task == "unanswerable" else f"Roof {number} must stand for {number + 10} years.")
    others = [f"Roof {number + step} must stand for {number + step + 10} years." for step in range(1, passages + 1)]
    ids = [f"faq:{number + step}" for step in range(1, passages + 1)]
    if passages and task == "answer":
        others, ids = [*others, text], [*ids, row_id]
    return {
        "id": row_id,
        "source": "faq",
        "category": category,
        "task": task,
        "messages": [
            {"role": "system", "content": "Answer."},
            {"role": "user", "content": f"How long, {number}?"},
            {"role": "assistant", "content": text},
        ],
        "question": f"How long, {number}?",
        "answer": text,
        "context": others,
        "context_ids": ids,
        "answer_in_context": task == "answer" and passages > 0,
        "group": f"group {number}",
    }
