import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.human_review.preference_judgements import HEADER
from assay.language_models.chat_template import MESSAGES
from stages import preferences
from tests.policy_workspace import COMPUTE, bytes_below
from tests.preference_chats import chat

PATH = "data/preferences.csv"


def params(model: Path) -> dict[str, Any]:
    decoding = {"max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0, "batch_size": 4}
    return {
        "seed": 1,
        "compute": COMPUTE,
        "language_model": str(model),
        "preferences": {
            "path": PATH,
            "max_length_tokens": 400,
            "sibling_answer": {
                "pairs_per_prompt": 1,
                "kinds": ["other_category", "shown_passage"],
                "refused_fraction": 0.3,
                "label_fraction": 1.0,
            },
            "base_answer": {
                "train_prompts": 3,
                "held_out_prompts": 2,
                "max_similarity": 0.9,
                "match_length": True,
                "decoding": decoding,
            },
            "altered_answer": {"pairs_per_prompt": 1, "needs_context": True},
        },
    }


def project(folder: Path, model: Path) -> dict[str, Any]:
    """Chats of three splits, a judgement on each, and params; returns the params."""
    (folder / "data/instruct").mkdir(parents=True)
    for split, start in (("train", 0), ("validation", 100), ("test", 200)):
        numbers = range(start, start + (12 if split == "train" else 6))
        chats = [chat(number, "roof" if number % 2 else "wall", passages=1) for number in numbers]
        chats.append(chat(start + 50, task="unanswerable", passages=1))
        chats += [chat(start + 60 + place, word, "label", word) for place, word in enumerate(["good", "bad", "good"])]
        table = pl.DataFrame(
            chats,
            schema_overrides={"messages": MESSAGES, "context": pl.List(pl.String), "context_ids": pl.List(pl.String)},
        )
        table.write_parquet(folder / f"data/instruct/{split}.parquet")
    lines = [f"faq:{number},Better.,Worse.,a,Ann,2026-11-23,m,n" for number in (0, 100, 200, 999)]
    (folder / PATH).write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    values = params(model)
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return values


@pytest.fixture
def ran(tiny_chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project(tmp_path, tiny_chat_model)
    monkeypatch.chdir(tmp_path)
    preferences.main()
    return tmp_path


def test_nothing_disappears_and_no_test_prompt_is_read(ran: Path) -> None:
    metrics = json.loads((ran / "metrics/optional/preferences.json").read_text())
    assert metrics["rows_in"] == metrics["rows_out"] + sum(metrics["removed"].values())
    train, held_out = (pl.read_parquet(ran / f"data/preferences/{name}.parquet") for name in ("train", "held_out"))
    removed = pl.read_parquet(ran / "data/preferences/removed.parquet")
    assert metrics["rows_out"] == train.height + held_out.height
    assert sum(metrics["removed"].values()) == removed.height
    assert metrics["removed"] | {"test_prompt": 1, "unknown_prompt": 1} == metrics["removed"]
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
    before = bytes_below("data/preferences", "metrics")
    preferences.main()
    assert bytes_below("data/preferences", "metrics") == before


def test_no_pair_at_all_is_an_error(tiny_chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = project(tmp_path, tiny_chat_model)
    monkeypatch.chdir(tmp_path)
    values["preferences"]["max_length_tokens"] = 8
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.parquet: no preference pair can be made .*'max_tokens'"):
        preferences.main()
    assert not (tmp_path / "data/preferences").exists()


def test_a_bad_file_of_judgements_stops_the_stage(
    tiny_chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, tiny_chat_model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / PATH).write_text(f"{HEADER}\nfaq:0,Better.,Worse.,left,Ann,2026-11-23,m,n\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2: faq:0: preferred is 'left'"):
        preferences.main()
