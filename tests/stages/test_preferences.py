import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.human_review.preference_judgements import HEADER, hash_question
from assay.language_models.chat_template import MESSAGES
from stages import preferences
from tests.policy_workspace import COMPUTE, bytes_below
from tests.preference_chats import BASE_ANSWER, chat

PATH = "data/preferences.csv"


def params(model: Path) -> dict[str, Any]:
    sibling = {"pairs_per_prompt": 1, "kinds": ["other_category", "shown_passage"]}
    section = {
        "path": PATH,
        "max_length_tokens": 400,
        "sibling_answer": sibling | {"refused_fraction": 0.3, "label_fraction": 1.0},
        "base_answer": BASE_ANSWER,
        "altered_answer": {"pairs_per_prompt": 1, "needs_context": True},
    }
    return {
        "seed": 1,
        "compute": COMPUTE,
        "language_model": str(model),
        "preferences": section,
        "template_arguments": {},
    }


def project(folder: Path, model: Path) -> dict[str, Any]:
    """Chats of three splits, a judgement on each, and params; returns the params."""
    for split, start in (("train", 0), ("validation", 100), ("test", 200)):
        numbers = range(start, start + (12 if split == "train" else 6))
        chats = [chat(number, "roof" if number % 2 else "wall", passages=1) for number in numbers]
        chats.append(chat(start + 50, task="unanswerable", passages=1))
        chats += [chat(start + 60 + place, word, "label", word) for place, word in enumerate(["good", "bad", "good"])]
        types = {"messages": MESSAGES, "context": pl.List(pl.String), "context_ids": pl.List(pl.String)}
        table = pl.DataFrame(chats, schema_overrides=types)
        # Of test rows, nothing but the ids may be read (docs/protocol.md).
        seen = table.select("id") if split == "test" else table
        seen.write_parquet(folder / f"data/instruct/{split}.parquet", mkdir=True)
    lines = [f"faq:{number},Better.,Worse.,a,Ann,2026-11-23,m,n" for number in (0, 100, 200, 999)]
    # Of two judgements on one question, one came before it was reworded.
    lines += [f"faq:1,One.,Two.,a,Ann,2026-11-23,m,n,{hash_question(text)}" for text in ("How long,  1?", "How far?")]
    (folder / PATH).write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    values = params(model)
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return values


@pytest.fixture
def values(tiny_chat_model: Path, tmp_path: Path) -> dict[str, Any]:
    return project(tmp_path, tiny_chat_model)


@pytest.fixture
def ran(values: dict[str, Any], tmp_path: Path) -> Path:
    preferences.main()
    return tmp_path


def test_nothing_disappears_and_no_test_prompt_is_read(ran: Path) -> None:
    metrics = json.loads((ran / "metrics/optional/preferences.json").read_text())
    assert metrics["rows_in"] == metrics["rows_out"] + sum(metrics["removed"].values())
    train, held_out = (pl.read_parquet(ran / f"data/preferences/{name}.parquet") for name in ("train", "held_out"))
    removed = pl.read_parquet(ran / "data/preferences/removed.parquet")
    assert metrics["rows_out"] == train.height + held_out.height
    assert sum(metrics["removed"].values()) == removed.height
    expected = {"test_prompt": 1, "unknown_prompt": 1, "prompt_changed": 1}
    assert metrics["removed"] | expected == metrics["removed"]
    assert (metrics["judgements"], metrics["judgements_without_question_hash"]) == (6, 4)
    assert removed.filter(rule="prompt_changed")["id"].to_list() == ["data/preferences.csv:7"]
    assert set(train["pair_source"]) == {"human", "sibling_answer", "base_answer", "altered_answer"}
    numbers = {
        name: {int(row.split(":")[1].split("#")[0]) for row in pairs["prompt_id"]}
        for name, pairs in (("train", train), ("held_out", held_out))
    }
    assert max(numbers["train"]) < 100 <= min(numbers["held_out"])
    assert max(numbers["held_out"]) < 200
    for pairs in (train, held_out):
        assert pairs["id"].is_unique().all()
        assert (pairs["chosen"] != pairs["rejected"]).all()
        assert all(messages[-1]["role"] == "user" for messages in pairs["messages"])
    # A made answer comes from the split of its prompt.
    texts = held_out.filter(pl.col("detail").str.starts_with("other_category"))["detail"].str.extract(r"faq:(\d+)")
    assert (texts.cast(pl.Int64) >= 100).all()


def test_the_same_seed_gives_the_same_bytes(ran: Path) -> None:
    before = bytes_below("data/preferences", "metrics/optional")
    preferences.main()
    assert bytes_below("data/preferences", "metrics/optional") == before


def test_no_pair_at_all_is_an_error(values: dict[str, Any], tmp_path: Path) -> None:
    values["preferences"]["max_length_tokens"] = 8
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.parquet: no preference pair can be made .*'max_tokens'"):
        preferences.main()
    assert not (tmp_path / "data/preferences").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("faq:0,Better.,Worse.,left", "line 2: faq:0: preferred is 'left'"),
        ("FAQ:00,Better.,Worse.,a", "line 2: there is no 'FAQ:00', but 'faq:0', which differs in form alone"),
    ],
)
def test_a_bad_file_of_judgements_stops_the_stage(values: Any, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / PATH).write_text(f"{HEADER}\n{line},Ann,2026-11-23,m,n\n", encoding="utf-8")
    with pytest.raises(InputError, match=said):
        preferences.main()
