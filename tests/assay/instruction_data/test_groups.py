import numpy as np
import polars as pl
import pytest
import torch

from assay.compute.device import Device
from assay.duplicates.near_duplicates import NearDuplicateParams
from assay.instruction_data.groups import find_compared, group_chats, strip_shared


def test_groups_are_linked_by_near_duplicates_the_same_question_and_by_meaning() -> None:
    rows = [
        ("a", "How do I paint?", "With a brush that is clean and dry."),
        ("b", "Something else altogether", "With nothing"),
        ("c", "HOW DO I PAINT", "Not at all"),
        ("d", "Where to?", "Over there, behind the old house by the river"),
        ("e", "Where to??", "Over there, behind the old house by the river!"),
        ("f", "And the rest", "So be it"),
    ]
    records = pl.DataFrame(rows, dict.fromkeys(("id", "prompt", "answer"), pl.String), orient="row")
    near = NearDuplicateParams(shingle_size=5, permutations=128, min_jaccard=0.8)
    device = Device(torch.device("cpu"), torch.float32)
    assert group_chats(records, {}, near, None, None, device).to_list() == ["a", "b", "a", "d", "d", "f"]
    # The second means what the fourth does, and the last what the third does.
    vectors = np.array(
        [[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0, 0.8, 0.6], [0, 0, 1], [0.7, 0.7, 0.1]], dtype=np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = group_chats(records, {}, near, vectors, 0.97, device)
    assert groups.to_list() == ["a", "b", "a", "d", "d", "a"]
    assert group_chats(records, {}, near, vectors, 0.79, device).to_list() == ["a"] * 6
    assert group_chats(records.head(0), {}, near, None, None, device).to_list() == []


INSTRUCTION = "Read the question with attention and answer it politely in full sentences"
ENDING = "Mention the weeks that it takes where you know them, please."
QUESTIONS = ["How do I paint the roof?", "How do I paint the wall?", "Who pays for it?", "Why?"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([f"{INSTRUCTION}:\n\n{question}" for question in QUESTIONS], QUESTIONS),
        ([f"{question} {ENDING}" for question in QUESTIONS], QUESTIONS),
        ([f"{INSTRUCTION}. {question}\n{ENDING}" for question in QUESTIONS], QUESTIONS),
        ([*(f"{INSTRUCTION}: {question}" for question in QUESTIONS), "And now?"], [*QUESTIONS, "And now?"]),
        (
            [f"{INSTRUCTION}:", *(f"{INSTRUCTION}: {question}" for question in QUESTIONS)],
            [f"{INSTRUCTION}:", *QUESTIONS],
        ),
        (QUESTIONS, QUESTIONS),
        ([f"{INSTRUCTION}: Why?"], [f"{INSTRUCTION}: Why?"]),
        ([], []),
    ],
)
def test_an_instruction_that_questions_share_is_not_compared(texts: list[str], expected: list[str]) -> None:
    assert list(strip_shared(texts)[0]) == expected
    records = pl.DataFrame({"source": "a", "prompt": texts, "question": texts}, schema_overrides={"prompt": pl.String})
    assert find_compared(records) == dict(zip(texts, expected, strict=True))
