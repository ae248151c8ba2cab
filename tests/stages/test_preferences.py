import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.human_review.preference_judgements import HEADER, Preference
from assay.language_models.chat_template import MESSAGES
from stages import preferences
from stages.preferences import (
    AlteredAnswer,
    BaseAnswer,
    Candidate,
    SiblingAnswer,
    altered_pairs,
    base_pairs,
    base_prompts,
    checked,
    judged_pairs,
    likeness,
    sibling_pairs,
    side_lengths,
    whole_sentences,
)

REFUSAL = "I do not know."
PATH = "data/preferences.csv"


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


def judgement(line: int, prompt: str, a: str, b: str, preferred: str, reviewer: str = "Ann") -> Preference:
    return Preference(line, prompt, a, b, preferred, reviewer, "2026-11-23", "m", "n")


def rejects(candidates: Sequence[Candidate]) -> dict[str, str]:
    return {one.id: one.reject for one in candidates if one.reject}


# The pairs of people


def test_judgements_are_counted_as_votes() -> None:
    lines = [
        judgement(2, "faq:1", "Good.", "Bad.", "a"),
        judgement(3, "faq:1", "Bad.", "Good.", "b", "Bo"),
        judgement(4, "faq:1", "Good.", "Bad.", "b", "Cy"),
        judgement(5, "faq:1", "Good.", "Other.", "b"),
    ]
    first, *others = [*judged_pairs(lines, {"faq:1": "train"}, "train", PATH)][::-1]
    assert (first.chosen, first.rejected, first.detail) == ("Other.", "Good.", "1 of 1 judgements")
    pair = next(one for one in others if one.reject is None)
    assert (pair.chosen, pair.rejected, pair.detail, pair.pair_source) == (
        "Good.",
        "Bad.",
        "2 of 3 judgements",
        "human",
    )
    assert rejects(others) == {f"{PATH}:3": "same_pair", f"{PATH}:4": "same_pair"}


def test_what_cannot_be_learnt_from_a_judgement_is_told() -> None:
    splits = {"faq:1": "train", "faq:2": "validation", "faq:3": "test"}
    lines = [
        judgement(2, "faq:1", "A.", "B.", "tie"),
        judgement(3, "faq:1", "A.", " A. ", "a"),
        judgement(4, "faq:1", " ", "B.", "b"),
        judgement(5, "faq:3", "A.", "B.", "a"),
        judgement(6, "faq:9", "A.", "B.", "a"),
        judgement(7, "faq:2", "A.", "B.", "a"),
        judgement(8, "faq:1", "C.", "D.", "a"),
        judgement(9, "faq:1", "C.", "D.", "b", "Bo"),
    ]
    train = [*judged_pairs(lines, splits, "train", PATH)]
    assert rejects(train) == {
        f"{PATH}:2": "tie",
        f"{PATH}:3": "equal_sides",
        f"{PATH}:4": "empty_side",
        f"{PATH}:5": "test_prompt",
        f"{PATH}:6": "unknown_prompt",
        f"{PATH}:8": "tie",
        f"{PATH}:9": "tie",
    }
    held_out = [*judged_pairs(lines, splits, "validation", PATH)]
    assert [(one.prompt_id, one.chosen, one.reject) for one in held_out] == [("faq:2", "A.", None)]
    # Each line is either a pair or a reject, once.
    assert len(train) + len(held_out) == len(lines)


# The pairs made by rule


def siblings(
    chats: list[dict[str, Any]], kinds: list[Any], refused: float = 0.0, labels: float = 1.0
) -> list[Candidate]:
    params = SiblingAnswer(pairs_per_prompt=1, kinds=kinds, refused_fraction=refused, label_fraction=labels)
    return [*sibling_pairs(chats, params, 1)]


def test_a_sibling_is_of_the_category_that_is_asked_for() -> None:
    chats = [chat(number, "roof" if number < 5 else "wall") for number in range(10)]
    by_answer = {one["answer"]: one for one in chats}
    for kind, same in (("other_category", False), ("same_category", True)):
        for one, made in zip(chats, siblings(chats, [kind]), strict=True):
            sibling = by_answer[made.rejected]
            assert made.chosen == one["answer"]
            assert sibling["id"] != one["id"]
            assert (sibling["category"] == one["category"]) == same
            assert made.detail == f"{kind} {sibling['id']}"


def test_an_answer_of_the_same_group_is_no_sibling() -> None:
    chats = [chat(1), chat(2, "wall") | {"group": "group 1"}]
    assert rejects(siblings(chats, ["other_category"])) == {
        "faq:1~sibling~0": "no_sibling",
        "faq:2~sibling~0": "no_sibling",
    }


def test_a_passage_that_is_shown_and_is_not_the_answer_is_one() -> None:
    chats = [chat(1, passages=2), chat(5, "wall", "unanswerable", passages=1), chat(8, "wall")]
    shown, unanswerable, without = siblings(chats, ["shown_passage", "other_category"])
    for _ in range(3):
        assert shown.rejected != chats[0]["answer"]
    only = siblings(chats, ["shown_passage"])
    assert only[0].rejected in chats[0]["context"][:2]
    assert (only[1].chosen, only[1].rejected) == (REFUSAL, chats[1]["context"][0])
    assert only[2].reject == "no_sibling"
    assert unanswerable.chosen == REFUSAL
    assert without.detail.startswith("other_category")


def test_a_label_stands_against_another_label() -> None:
    chats = [chat(number, word, "label", word) for number, word in enumerate(["good", "bad", "fair"])]
    for one, made in zip(chats, siblings(chats, ["other_category"]), strict=True):
        assert made.rejected in {"good", "bad", "fair"} - {one["answer"]}
        assert made.detail == "label"
    many = [chat(number, word, "label", word) for number in range(50) for word in ["good", "bad"]]
    many = [one | {"id": f"tweets:{place}"} for place, one in enumerate(many)]
    assert 30 <= len(siblings(many, ["other_category"], labels=0.5)) <= 70
    assert siblings(many, ["other_category"], labels=0.0) == []


def test_a_refusal_is_worse_where_the_answer_is_known() -> None:
    chats = [chat(number, "roof" if number < 20 else "wall") for number in range(40)]
    chats.append(chat(50, task="unanswerable", passages=1))
    refused = [one for one in siblings(chats, ["other_category"], refused=0.5) if one.detail == "refusal"]
    assert 10 <= len(refused) <= 30
    assert all(one.rejected == REFUSAL and one.chosen != REFUSAL for one in refused)
    # Without a refusal in the split there is none to show.
    assert not [one for one in siblings(chats[:-1], ["other_category"], refused=1.0) if one.detail == "refusal"]


def test_a_chat_keeps_its_draws_when_others_are_added() -> None:
    chats = [chat(number, "roof" if number % 2 else "wall", passages=2) for number in range(12)]
    altered = AlteredAnswer(pairs_per_prompt=2, needs_context=True)
    before = {one.id: one for one in altered_pairs(chats[:6], altered, 1)}
    after = {one.id: one for one in altered_pairs(chats[::-1], altered, 1)}
    assert before.items() <= after.items()
    shown = {one.id: one for one in siblings(chats[:6], ["shown_passage"])}
    assert shown.items() <= {one.id: one for one in siblings(chats, ["shown_passage"])}.items()


def test_an_altered_answer_needs_a_place_and_a_context() -> None:
    chats = [chat(1, passages=1), chat(2), chat(3, answer="Nice."), chat(4, task="unanswerable", passages=1)]
    made = [*altered_pairs(chats, AlteredAnswer(pairs_per_prompt=1, needs_context=False), 1)]
    assert [one.prompt_id for one in made] == ["faq:1", "faq:2", "faq:3"]
    assert rejects(made) == {"faq:3~altered~0": "nothing_to_alter"}
    assert made[0].detail.split(":")[0] in {"number", "negation"}
    assert made[0].rejected != made[0].chosen == chats[0]["answer"]
    with_context = [*altered_pairs(chats, AlteredAnswer(pairs_per_prompt=3, needs_context=True), 1)]
    assert {one.prompt_id for one in with_context} == {"faq:1"}
    told = [one.rejected for one in with_context if one.reject is None]
    assert len(told) == len(set(told))


def base(match_length: bool) -> BaseAnswer:
    decoding = {"max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0, "batch_size": 4}
    return BaseAnswer.model_validate(
        {
            "train_prompts": 3,
            "held_out_prompts": 2,
            "max_similarity": 0.9,
            "match_length": match_length,
            "decoding": decoding,
        }
    )


def test_an_own_answer_as_good_as_the_true_one_is_none() -> None:
    chats = [chat(1), chat(2), chat(3)]
    said = ["Roof 1 must stand for 11 years!", "It never falls. Not at all. I am sure of that, as sure as can be.", ""]
    same, other, empty = base_pairs(chats, said, base(match_length=True))
    assert same.reject == "like_the_true_answer"
    assert (other.rejected, other.reject) == ("It never falls. Not at all.", None)
    assert other.detail == "likeness 0.00, 27 of 65 characters"
    assert (empty.rejected, empty.reject) == ("", None)
    assert [one.rejected for one in base_pairs(chats, said, base(match_length=False))][1] == said[1]


def test_the_base_model_is_asked_so_many_prompts_with_words_for_answers() -> None:
    chats = [chat(number) for number in range(10)] + [chat(99, "bad", "label", "bad")]
    asked = base_prompts(chats, 4, 1)
    assert len({one["id"] for one in asked} - {"faq:99"}) == 4
    assert base_prompts(chats[::-1], 4, 1) == asked[::-1]
    assert len(base_prompts(chats, 100, 1)) == 10
    assert base_prompts(chats, 0, 1) == []


@pytest.mark.parametrize(
    ("text", "characters", "cut"),
    [
        ("One. Two two. Three three three.", 4, "One."),
        ("One. Two two. Three three three.", 14, "One. Two two."),
        ("One. Two two. Three three three.", 1000, "One. Two two. Three three three."),
        ("One. Two tw", 1000, "One."),
        ("no end in sight", 3, "no end in sight"),
        ("- 4.5 m\n- 5 m\nSo it is. And", 30, "- 4.5 m\n- 5 m\nSo it is."),
        ("", 5, ""),
    ],
)
def test_a_text_is_cut_to_whole_sentences(text: str, characters: int, cut: str) -> None:
    assert whole_sentences(text, characters) == cut


def test_likeness_is_one_for_the_same_words() -> None:
    assert likeness("Ten weeks, yes.", "ten weeks yes") == 1.0
    assert likeness("ten weeks", "never") == 0.0
    assert likeness("a b c d", "a b x d") == pytest.approx(0.75)


# The checks


def test_pairs_that_cannot_be_learnt_from_are_told_with_their_reason() -> None:
    chats = {f"faq:{number}": chat(number) for number in range(5)}

    def candidate(number: int, chosen: str, rejected: str, reject: str | None = None) -> Candidate:
        return Candidate(f"{number}", f"faq:{number}", "sibling_answer", chosen, rejected, "d", reject)

    def too_long(whole: list[list[Any]]) -> list[bool]:
        return [len(messages[-1]["content"]) > 10 for messages in whole]

    made = checked(
        [
            candidate(0, " Good. ", "Bad."),
            candidate(1, "Same.", "Same. "),
            candidate(2, "Good.", ""),
            candidate(3, "Good.", "x" * 11),
            candidate(4, "Good.", "", "no_sibling"),
        ],
        chats,
        too_long,
    )
    assert made.kept.schema == preferences.PAIRS_SCHEMA
    assert made.removed.schema == REMOVED_SCHEMA
    (kept,) = made.kept.to_dicts()
    assert (kept["chosen"], kept["rejected"], kept["category"]) == ("Good.", "Bad.", "roof")
    assert [message["role"] for message in kept["messages"]] == ["system", "user"]
    assert dict(made.removed.select("id", "rule").iter_rows()) == {
        "1": "equal_sides",
        "2": "empty_side",
        "3": "max_tokens",
        "4": "no_sibling",
    }
    assert made.removed["before"][0] == "Same.\n---\nSame. "


def test_lengths_of_both_sides_are_told_by_source() -> None:
    pairs = pl.DataFrame(
        {
            "pair_source": ["human", "human", "base_answer"],
            "chosen": ["a b c", "a", "a b"],
            "rejected": ["a", "a", "a b c d"],
        }
    )
    lengths = side_lengths(pairs)
    assert set(lengths) == {"all", "human", "base_answer"}
    assert lengths["human"] == {
        "pairs": 2,
        "chosen_words": 2.0,
        "rejected_words": 1.0,
        "chosen_longer": 0.5,
        "equal_length": 0.5,
    }


# The stage


def params(model: Path) -> dict[str, Any]:
    return {
        "seed": 1,
        "compute": {
            "device": "cpu",
            "precision": "float32",
            "threads": 1,
            "checkpoint_seconds": 60,
            "backend": "processes",
        },
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
            "base_answer": base(match_length=True).model_dump(),
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
    before = {path.name: path.read_bytes() for path in (ran / "data/preferences").iterdir()}
    preferences.main()
    assert {path.name: path.read_bytes() for path in (ran / "data/preferences").iterdir()} == before


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
