import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from transformers import AutoTokenizer

from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.instruction_data.cleaning import CHANGED_SCHEMA
from assay.instruction_data.formats import FIXES
from assay.instruction_data.table import CHAT_SCHEMA
from assay.language_models.chat_template import add_answers
from assay.language_models.sft import read_chats as read_sft_chats
from assay.splitting.assignment import SPLITS
from stages import instruct_data
from tests.own_process import run_python
from tests.policy_workspace import bytes_below
from tests.template_params import read_template_params

REFUSAL = "I do not know."
THINGS = ("window", "kitchen", "roof", "garden", "cellar", "chimney", "garage", "stair")
DEEDS = ("paint", "insure", "replace", "inspect", "extend", "demolish", "insulate", "photograph", "measure")
CATEGORIES = ("garden", "house", "town")
LABELS = ("bad", "fine", "good")

Row = dict[str, Any]


def faq(count: int = 72) -> list[Row]:
    """Questions and answers of three categories, no two alike."""
    random = np.random.default_rng(11)
    rows = []
    for number, (deed, thing) in enumerate(itertools.islice(itertools.product(DEEDS, THINGS), count)):
        words = ["".join(random.choice(list("bdfgklmnprstaeiou"), 6)) for _ in range(12)]
        answer = f"To {deed} a {thing} takes {' '.join(words)}, and {number + 3} weeks."
        row = {"id": f"{thing}-{deed}", "category": CATEGORIES[number % 3], "q": f"How do I {deed} the {thing}?"}
        rows.append(row | {"a": answer})
    return rows


def label_rows(split: str, count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"{split}:{number}" for number in range(count)],
            "text": [f"text {number} of {split}" for number in range(count)],
            "label": [LABELS[number % 3 if number % 4 else 2] for number in range(count)],
            "reference_label": [None if number % 2 else "fine" for number in range(count)],
            "split_group": [f"group {split}:{number}" for number in range(count)],
            "source": "tweets",
            "origin": [f"tweets.txt:{number}" for number in range(count)],
            "source_url": "https://example.org/tweets",
            "licence": "MIT",
            "retrieved": "2026-01-02",
            "authenticity": "real",
        }
    )


@pytest.fixture(autouse=True)
def workplace(tiny_encoder: Path, tiny_chat_model: Path) -> None:
    shutil.copytree(tiny_encoder, "encoder")
    shutil.copytree(tiny_chat_model, "chat_model")
    for folder, split, count in (("label_errors", "train", 40), ("split", "validation", 20), ("split", "test", 20)):
        label_rows(split, count).write_parquet(f"data/{folder}/{split}.parquet", mkdir=True)


def params(**changed: Any) -> dict[str, Any]:
    """The committed params on small models, without passages and labels unless they are given."""
    all_params: dict[str, Any] = read_template_params()
    all_params["embed"]["model"] = "encoder"
    all_params["language_model"] = "chat_model"
    all_params["compute"] |= {"threads": 1, "device": "cpu"}
    all_params["instruct_data"] |= dict.fromkeys(("min_question_cosine", "context", "label_task"))
    all_params["instruct_data"] |= {"path": "raw", "max_length_tokens": 1024}
    all_params["instruct_data"]["sources"][0] |= {"url": "https://example.org/faq", "licence": "CC0"}
    for key, value in changed.items():
        section, _, name = key.rpartition("__")
        all_params[section or "instruct_data"][name] = value
    return all_params


def context(**changed: Any) -> dict[str, Any]:
    return {
        "passages": 3,
        "max_characters": 400,
        "closed_book_fraction": 0.25,
        "prompt": "{passages}\n\nQuestion: {question}",
        "unanswerable": {"fraction": 0.3, "refusal": REFUSAL, "max_jaccard": 0.5, "max_cosine": None},
    } | changed


LABEL_TASK = {"prompt": "One of {labels}: {text}", "train_rows": 12, "validation_rows": 5, "test_rows": 6}


def source(**changed: Any) -> dict[str, Any]:
    one: dict[str, Any] = params()["instruct_data"]["sources"][0]
    return one | changed


def write(rows: Sequence[Row], file: str = "faq-en.jsonl") -> None:
    Path("raw").mkdir(exist_ok=True)
    Path("raw", file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(rows: Sequence[Row] | None = None, **changed: Any) -> tuple[pl.DataFrame, dict[str, Any]]:
    """All chats with their `split`, and the metrics; checks what always holds."""
    if rows is not None:
        write(rows)
    Path("params.yaml").write_text(yaml.safe_dump(params(**changed), sort_keys=False), encoding="utf-8")
    instruct_data.main()
    parts = [pl.read_parquet(f"data/instruct/{split}.parquet") for split in SPLITS]
    chats = pl.concat(part.with_columns(split=pl.lit(name)) for name, part in zip(SPLITS, parts, strict=True))
    metrics: dict[str, Any] = read_json("metrics/optional/instruct_data.json")
    removed, changed_rows = read("removed"), read("changed")
    assert all(part.schema == CHAT_SCHEMA for part in parts)
    assert (removed.schema, changed_rows.schema) == (REMOVED_SCHEMA, CHANGED_SCHEMA)
    assert metrics["rows_in"] == metrics["rows_out"] + sum(metrics["removed"].values())
    assert metrics["rows_out"] == chats.height == sum(sum(tasks.values()) for tasks in metrics["rows"].values())
    assert sum(metrics["removed"].values()) == removed.height
    assert chats["id"].is_unique().all()
    assert chats.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    for chat in chats.iter_rows(named=True):
        assert chat["messages"][-1] == {"role": "assistant", "content": chat["answer"]}
        assert chat["question"] in chat["messages"][-2]["content"]
        assert all(passage in chat["messages"][-2]["content"] for passage in chat["context"])
        assert chat["answer_in_context"] == (chat["answer"] in chat["context"])
        assert len(chat["context"]) == len(chat["context_ids"])
    return chats, metrics


def read(name: str) -> pl.DataFrame:
    return pl.read_parquet(f"data/instruct/{name}.parquet")


def splits_of(chats: pl.DataFrame) -> dict[str, str]:
    return dict(chats.select("id", "split").iter_rows())


def test_questions_and_answers_come_out_as_chats_with_where_they_come_from() -> None:
    chats, metrics = run(faq())
    assert chats.filter(pl.col("id") == "faq:roof-paint").drop("split").row(0, named=True) == {
        "id": "faq:roof-paint",
        "source": "faq",
        "category": "town",
        "task": "answer",
        "messages": add_answers([[{"role": "user", "content": "How do I paint the roof?"}]], [faq()[2]["a"]])[0],
        "without_loss": [],
        "question": "How do I paint the roof?",
        "answer": faq()[2]["a"],
        "context": [],
        "context_ids": [],
        "answer_in_context": False,
        "group": "faq:roof-paint",
        "origin": "faq-en.jsonl:3",
        "source_url": "https://example.org/faq",
        "licence": "CC0",
        "retrieved": "2026-11-23",
        "authenticity": "real",
    }
    assert {rule for rule, rows in metrics["removed"].items() if rows} == set()
    assert set(FIXES) < set(metrics["removed"])
    seen = {"chats": 72, "turns": 72, "answers_without_loss": 0, "unused_columns": {}, "unused_message_keys": {}}
    assert metrics["sources"] == {"faq": {"rows_in": 72, "rows_out": 72, **seen}}
    assert metrics["categories"] == len(CATEGORIES)
    # A byte is a token of the small model; the template adds some.
    longest = max(len(row["a"]) for row in faq())
    assert metrics["tokens"]["answer"]["answer_tokens"]["max"] == longest + 1
    # Every category is in every split, as in the classification track.
    assert chats.group_by("category").agg(pl.col("split").n_unique())["split"].to_list() == [3] * 3


def test_four_formats_of_the_same_rows_give_the_same_chats() -> None:
    rows = faq(24)
    turns = [(row["q"], row["a"]) for row in rows]
    write([{"instruction": q, "input": "", "output": a} for q, a in turns], "alpaca.jsonl")
    write([{"chat": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]} for q, a in turns], "sharegpt.jsonl")
    chats_in = add_answers([[{"role": "user", "content": q}] for q, _ in turns], [a for _, a in turns])
    Path("raw/messages.json").write_text(json.dumps([{"chat": one} for one in chats_in]), encoding="utf-8")
    none = {"id": None, "category": None}
    layouts = {
        "alpaca.jsonl": {"kind": "alpaca", **none},
        "sharegpt.jsonl": {"kind": "sharegpt", "chat": "chat", **none},
        "messages.json": {"kind": "messages", "chat": "chat", **none},
        "faq-en.jsonl": {"kind": "columns", "question": "q", "answer": "a", "context": None, "system": None, **none},
    }
    found = []
    for file, layout in layouts.items():
        one = source(file=file, format=file.rpartition(".")[2], layout=layout)
        chats, _ = run(rows if file == "faq-en.jsonl" else None, sources=[one])
        # Where the data has no ids, they are made from the content; where it has no category, that is the source.
        assert set(chats["category"]) == {"faq"}
        assert chats["id"].str.contains(r"^faq:[0-9a-f]{16}$").all()
        found.append(chats.drop("origin"))
    assert all(one.equals(found[0]) for one in found)


def test_chats_of_several_turns_are_kept_and_their_last_question_gets_the_passages() -> None:
    chats_in = []
    for index, (thing, deed) in enumerate(itertools.product(THINGS, DEEDS)):
        last = f"The {deed} office of number {index} knows how to do a {thing}."
        contents = [f"I have a {thing} here.", "Good.", f"How do I {deed} it?", last]
        chats_in.append(
            [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, contents, strict=True)]
        )
    write([{"chat": one} for one in chats_in], "chats.jsonl")
    layout = {"kind": "messages", "id": None, "category": None, "chat": "chat"}
    one = source(file="chats.jsonl", layout=layout, system_message="Be brief.")
    chats, _ = run(sources=[one], context=context(closed_book_fraction=0.0, unanswerable=None))
    for chat in chats.iter_rows(named=True):
        roles = [message["role"] for message in chat["messages"]]
        assert roles == ["system", "user", "assistant", "user", "assistant"]
        assert chat["messages"][0]["content"] == "Be brief."
        assert chat["messages"][1]["content"].startswith("I have a ")
        assert chat["messages"][3]["content"].endswith(f"\n\nQuestion: {chat['question']}")
        assert chat["answer_in_context"]


def test_an_instruction_before_every_question_makes_none_like_another(capsys: pytest.CaptureFixture[str]) -> None:
    long = "Answer the question below politely and in full, in the language that it is asked in. " * 4
    rows = [row | {"q": long + row["q"]} for row in faq()]
    _, metrics = run(rows, min_question_cosine=0.9999)
    assert metrics["rows_in_largest_group"] == 1
    assert metrics["cut_where_compared"]["prompt"] == 0
    assert "faq: questions share 67 words, which are not compared: Answer the question" in capsys.readouterr().err
    # Where it is behind the question that texts differ, nothing helps but room.
    for number, row in enumerate(rows):
        row["q"] = f"{number} {long} {number}"
    with pytest.raises(InputError, match=r"raw: all \d+ chats are in one group.* \d+ of their prompts were cut"):
        run(rows, min_question_cosine=0.5)


def test_no_held_out_answer_is_shown_to_another_row() -> None:
    chats, _ = run(faq(), context=context())
    split, answers = splits_of(chats), dict(chats.select("id", "answer").iter_rows())
    answering = chats.filter(pl.col("task") == "answer")
    assert answering.filter(pl.col("split") == "train")["context_ids"].list.len().max() == 3
    for chat in answering.iter_rows(named=True):
        others = [id_ for id_ in chat["context_ids"] if id_ != chat["id"]]
        assert {split[id_] for id_ in others} <= {"train"}
        assert chat["context"] == [answers[id_] for id_ in chat["context_ids"]]
        assert sum(map(len, chat["context"])) <= 400
        # A row without passages is asked by heart; else its own answer is among them.
        assert (chat["id"] in chat["context_ids"]) == bool(chat["context"])
    held_out = set(answering.filter(pl.col("split") != "train")["answer"])
    shown = chats.filter(pl.col("split") == "train")["context"].explode()
    assert held_out & set(shown) == set()
    closed = answering.filter(pl.col("context").list.len() == 0)
    assert 8 <= closed.height <= 30
    # The own answer stands first about as often as anywhere else.
    places = [chat["context_ids"].index(chat["id"]) for chat in answering.iter_rows(named=True) if chat["context"]]
    assert len(set(places)) == 3


def test_a_question_that_cannot_be_answered_never_shows_its_answer() -> None:
    rows = faq()
    # Another answer to the same, in the same group; and one that says the same to another question.
    rows.append({"id": "again", "category": "town", "q": "How do I paint the roof?", "a": "Twice, by yourself."})
    rows.append(rows[3] | {"id": "alike", "q": "Whom do I ask?", "a": rows[3]["a"].replace("takes", "needs")})
    chats, metrics = run(rows, context=context(unanswerable=context()["unanswerable"] | {"fraction": 1.0}))
    unanswerable = chats.filter(pl.col("task") == "unanswerable")
    assert unanswerable.height == metrics["unanswerable_rows_made"]
    assert unanswerable.height + metrics["unanswerable_rows_without_far_passage"] == len(rows)
    assert unanswerable.height > 60
    by_id = {chat["id"]: chat for chat in chats.iter_rows(named=True)}
    for chat in unanswerable.iter_rows(named=True):
        asked = by_id[chat["id"].removesuffix("#unanswerable")]
        assert chat["id"].endswith("#unanswerable")
        assert chat["answer"] == REFUSAL
        assert chat["authenticity"] == "augmented"
        assert all(chat[name] == asked[name] for name in ("split", "group", "question"))
        assert chat["context"]
        assert asked["answer"] not in chat["messages"][-2]["content"]
        assert {by_id[id_]["split"] for id_ in chat["context_ids"]} == {"train"}
        assert asked["group"] not in {by_id[id_]["group"] for id_ in chat["context_ids"]}
    pair = {"faq:alike", f"faq:{rows[3]['id']}"}
    in_pair = pl.col("id").str.strip_suffix("#unanswerable").is_in(list(pair))
    assert not pair & set(unanswerable.filter(in_pair)["context_ids"].explode())


def test_without_fractions_every_row_has_its_answer_and_none_is_made() -> None:
    unanswerable = context()["unanswerable"] | {"fraction": 0.0}
    chats, metrics = run(faq(), context=context(closed_book_fraction=0.0, unanswerable=unanswerable))
    assert chats["answer_in_context"].all()
    assert metrics["rows"]["train"]["unanswerable"] == 0
    chats, _ = run(faq(), context=context(closed_book_fraction=1.0, unanswerable=None))
    assert not chats["answer_in_context"].any()


def test_the_search_and_the_groups_can_go_by_the_encoder() -> None:
    unanswerable = context()["unanswerable"] | {"max_cosine": 0.99}
    chats, _ = run(faq(), context=context(unanswerable=unanswerable), min_question_cosine=0.9999)
    assert chats.filter(pl.col("context").list.len() == 3).height > 40


def test_questions_that_are_the_same_go_to_one_split_and_equal_rows_once() -> None:
    rows = faq()
    for n, row in enumerate(faq(20)):
        rows.append(row | {"id": f"again-{row['id']}", "q": row["q"].upper(), "a": f"No. {n} {row['id']}!"})
    rows += [faq()[30] | {"id": "twin"}, faq()[31] | {"id": "near", "a": faq()[31]["a"].replace(" a ", " the ", 1)}]
    chats, metrics = run(rows)
    assert metrics["removed"]["exact_duplicate"] == 1
    assert read("removed").select("id", "rule", "before").rows() == [
        ("faq:twin", "exact_duplicate", f"{faq()[30]['q']}\n{faq()[30]['a']}")
    ]
    group = dict(chats.select("id", "group").iter_rows())
    assert all(group[f"faq:again-{row['id']}"] == f"faq:{row['id']}" for row in faq(20))
    assert group["faq:near"] == f"faq:{faq()[31]['id']}"
    assert metrics["groups_of_several_rows"] == 21
    assert metrics["rows_in_largest_group"] == 2


def test_added_rows_move_no_old_one() -> None:
    old, metrics = run(faq(48), context=context())
    new, _ = run(faq(), context=context())
    before, after = splits_of(old), splits_of(new)
    # A category that is small is dealt out again when it grows.
    small = old.filter(pl.col("category").is_in(list(metrics["forced_categories"])))["id"]
    steady = {id_: split for id_, split in before.items() if id_ not in set(small)}
    assert len(steady) > 20
    assert {id_: after[id_] for id_ in steady} == steady
    # Whether a row is asked by heart or once more without an answer does not change either.
    by_heart = (pl.col("task") == "answer") & ~pl.col("answer_in_context")
    assert set(old.filter(by_heart)["id"]) <= set(new.filter(by_heart)["id"])


def test_personal_data_is_taken_out_of_questions_answers_and_passages() -> None:
    rows = faq()
    rows[0]["q"] = "Is ann.smith@example.com the office of roofs?"
    rows[0]["a"] = "No: call +46 771 567 567, or pay DE89 3704 0044 0532 0130 00."
    chats, metrics = run(rows, context=context())
    text = json.dumps(chats.to_dicts())
    assert all(part not in text for part in ("ann.smith", "567", "3704"))
    row = chats.filter(pl.col("id") == "faq:window-paint").row(0, named=True)
    assert row["question"] == "Is <EMAIL> the office of roofs?"
    assert row["answer"] == "No: call <PHONE>, or pay <IBAN>."
    found = {name: count for name, count in metrics["changed"].items() if count}
    assert found == {"redact_email": 1, "redact_phone": 1, "redact_iban": 1}
    assert metrics["rows_changed"] == 1


def test_records_that_cannot_be_used_are_counted_rejects() -> None:
    rows = [*faq(), {"id": "x", "category": "town", "q": "Why?", "a": " "}, {"id": "", "q": "Why?", "a": "So."}]
    write(rows)
    with Path("raw/faq-en.jsonl").open("a", encoding="utf-8") as file:
        file.write("no json\n")
    _, metrics = run(max_reject_fraction=0.05)
    found = {rule: count for rule, count in metrics["removed"].items() if count}
    assert found == {"empty_answer": 1, "no_id": 1, "not_json": 1}
    assert set(read("removed").rows()) == {
        ("faq-en.jsonl:73", "empty_answer", "Why?", None),
        ("faq-en.jsonl:74", "no_id", "So.", None),
        ("faq-en.jsonl:75", "not_json", "no json", None),
    }
    with pytest.raises(InputError, match=r"raw/faq-en\.jsonl:73: empty_answer: 'Why\?'; 3 of 75 .* write the answer"):
        run(max_reject_fraction=0.01)


def test_where_no_record_can_be_read_the_error_says_why(tmp_path: Path) -> None:
    write([])
    Path("raw/faq-en.jsonl").write_text('{"q": "Why?", "a": "So.", "a": "No."}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"faq-en\.jsonl:1: .*1 of 1 records cannot be read.*`instruct_data\.max_rej"):
        run()


def test_what_was_seen_and_what_nothing_uses_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"url": "x"} for row in faq()]
    write([{"chat": as_messages(row, time="now", weight=1)} for row in rows], "chats.jsonl")
    with Path("raw/chats.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"chat": as_messages(rows[0], tool_calls=[{"id": 1}])}) + "\n")
    layout = {"kind": "messages", "id": None, "category": None, "chat": "chat"}
    several = [source(name="a", file="chats.jsonl", layout=layout), source(name="b")]
    _, metrics = run(rows, sources=several, max_reject_fraction=0.05)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("instruct_data: ")]
    assert told[:2] == [
        "instruct_data: a: rows 73, removed {'tool_use': 1}, chats 72, turns 72, unused_message_keys {'time': 72}",
        "instruct_data: b: rows 72, chats 72, turns 72, unused_columns {'url': 72}",
    ]
    assert metrics["removed"]["tool_use"] == 1
    assert metrics["sources"]["a"]["unused_message_keys"] == {"time": 72}
    assert metrics["sources"]["b"]["unused_columns"] == {"url": 72}


def as_messages(row: Row, **of_answer: Any) -> list[Row]:
    return [{"role": "user", "content": row["q"]}, {"role": "assistant", "content": row["a"], **of_answer}]


def test_an_answer_of_weight_zero_is_in_the_table_and_has_no_loss(tiny_chat_model: Path) -> None:
    rows = faq(24)
    first = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "WRONG", "weight": 0}]
    write([{"chat": [*first, *as_messages(row)]} for row in rows], "chats.jsonl")
    layout = {"kind": "messages", "id": None, "category": None, "chat": "chat"}
    one = source(file="chats.jsonl", layout=layout, system_message="Be brief.")
    chats, metrics = run(sources=[one], context=context(unanswerable=None))
    assert set(chats["without_loss"].list.first()) == {2}
    assert metrics["sources"]["faq"]["answers_without_loss"] == 24
    longest = max(len(row["a"]) for row in rows)
    assert metrics["tokens"]["answer"]["answer_tokens"]["max"] == longest + 1
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat_model)
    for split in SPLITS:
        for chat in read_sft_chats(Path(f"data/instruct/{split}.parquet"), tokenizer, 2000)[0]:
            learnt: Any = tokenizer.decode([token for token in chat.labels if token >= 0])
            assert "WRONG" in tokenizer.decode(chat.input_ids)
            assert learnt.startswith("To ")
            assert "WRONG" not in learnt


@pytest.mark.parametrize("file", ["flat.parquet", "release.json", "flat.json"])
def test_squad_becomes_chats_with_their_passage(file: str) -> None:
    questions = [
        {"id": str(n), "question": row["q"], "context": row["a"], "title": row["category"]}
        | {"answers": {"text": [row["a"]] if n % 3 else [], "answer_start": [4] if n % 3 else []}}
        for n, row in enumerate(faq())
    ]
    Path("raw").mkdir()
    if file == "flat.parquet":
        pl.DataFrame(questions).write_parquet("raw/flat.parquet")
    elif file == "flat.json":
        Path("raw/flat.json").write_text(json.dumps({"data": questions}), encoding="utf-8")
    else:
        articles = [
            {"title": one["title"], "paragraphs": [{"context": one["context"], "page": 3, "qas": [asked(one)]}]}
            for one in questions
        ]
        Path("raw/release.json").write_text(json.dumps({"version": "v2.0", "data": articles}), encoding="utf-8")
    layout = {"kind": "squad", "id": "id", "category": "title"}
    one = source(file=file, format=file.rpartition(".")[2], layout=layout, passages="given")
    chats, metrics = run(sources=[one], context=context())
    assert dict(chats["task"].value_counts().rows()) == {"answer": 48, "unanswerable": 24}
    assert metrics["unanswerable_rows_made"] == 0
    for chat in chats.iter_rows(named=True):
        assert chat["answer_in_context"] == (chat["task"] == "answer")
        assert len(chat["context"]) == 1
        assert (chat["answer"] == REFUSAL) == (chat["task"] == "unanswerable")
    if file == "release.json":
        assert metrics["sources"]["faq"]["unused_columns"] == {"page": 72}
        Path("raw/release.json").write_text(json.dumps({"data": [{"paragraphs": [{"qas": []}, 3]}]}), encoding="utf-8")
        with pytest.raises(InputError, match=r"raw/release\.json: holds no JSON list"):
            run(sources=[one], context=context())


def asked(question: Row) -> Row:
    texts = [{"text": text, "answer_start": 4} for text in question["answers"]["text"]]
    return {"id": question["id"], "question": question["question"], "answers": texts, "is_impossible": not texts}


def test_a_context_that_the_data_brings_is_shown() -> None:
    rows = [row | {"x": row["a"] if number % 2 else None} for number, row in enumerate(faq())]
    layout = source()["layout"] | {"context": "x"}
    one = source(layout=layout, passages="given")
    chats, _ = run(rows, sources=[one], context=context())
    shown = chats.filter(pl.col("context").list.len() > 0)
    assert shown.height == 36
    assert set(chats["task"]) == {"answer"}
    first = shown.filter(pl.col("id") == "faq:kitchen-paint").row(0, named=True)
    assert (first["context"], first["context_ids"]) == ([rows[1]["x"]], ["faq:kitchen-paint"])
    assert first["messages"][0]["content"] == f"[1] {rows[1]['x']}\n\nQuestion: How do I paint the kitchen?"


def test_what_is_too_long_goes_without_passages_or_goes() -> None:
    rows = faq()
    rows[5] |= {"a": rows[5]["a"] + " And so on." * 40}
    chats, metrics = run(rows, context=context(closed_book_fraction=0.0), max_length_tokens=300)
    removed = read("removed")["id"]
    assert metrics["removed"]["max_tokens"] == len(removed) > 10
    # Of those that have an answer, only the one that is too long by itself.
    assert removed.filter(~removed.str.ends_with("#unanswerable")).to_list() == ["faq:chimney-paint"]
    assert metrics["rows_without_passages_for_length"]["max_tokens"] > 40
    assert max(of_task["tokens"]["max"] for of_task in metrics["tokens"].values()) <= 300
    # With room for the chat, but not for the answer among the passages.
    chats, metrics = run(rows, context=context(closed_book_fraction=0.0))
    assert metrics["rows_without_passages_for_length"] == {"max_characters": 1, "max_tokens": 0}
    assert chats.filter(pl.col("id") == "faq:chimney-paint")["context"].to_list() == [[]]


def test_label_rows_stay_in_their_splits_and_test_rows_have_the_better_label() -> None:
    chats, metrics = run(faq(), label_task=LABEL_TASK)
    labelled = chats.filter(pl.col("task") == "label")
    assert [metrics["rows"][split]["label"] for split in SPLITS] == [12, 5, 6]
    for chat in labelled.iter_rows(named=True):
        split, number = chat["id"].split(":")
        assert chat["split"] == split
        assert chat["question"] == f"One of bad, fine or good: text {number} of {split}"
        assert chat["group"] == f"group {chat['id']}"
        assert (chat["source"], chat["origin"], chat["licence"]) == ("tweets", f"tweets.txt:{number}", "MIT")
        row = label_rows(split, 40).row(int(number), named=True)
        expected = row["reference_label"] or row["label"] if split == "test" else row["label"]
        assert chat["answer"] == chat["category"] == expected
    # Of 40 train rows 10 + 10, 10 and 10 have the labels: so have the 12.
    shares = dict(label_rows("train", 40)["label"].value_counts().rows())
    drawn = dict(labelled.filter(pl.col("split") == "train")["answer"].value_counts().rows())
    assert all(abs(drawn[label] - 12 * shares[label] / 40) < 1 for label in LABELS)


def test_an_id_of_two_tracks_is_an_error() -> None:
    rows = [row | {"id": str(number)} for number, row in enumerate(faq())]
    with pytest.raises(InputError, match=r"two chats have the id 'train:\d+', from .*tweets\.txt"):
        run(rows, sources=[source(name="train")], label_task=LABEL_TASK | {"train_rows": 40})
    assert not Path("data/instruct").exists()


def test_an_id_that_occurs_twice_is_an_error() -> None:
    with pytest.raises(InputError, match=r"1 ids occur more than once, the first 'faq:window-paint'"):
        run([*faq(), faq()[1] | {"id": "window-paint"}])


def test_a_category_too_small_for_every_split() -> None:
    rows = [*faq(), faq()[0] | {"id": "odd", "category": "rof", "q": "How?", "a": "With a ladder."}]
    with pytest.raises(InputError, match=r"(?s)a category needs at least 3 rows.*category 'rof': 1 row.*faq:odd"):
        run(rows)
    _, metrics = run(rows, split__rare_labels="remove")
    assert metrics["removed"]["rare_category"] == 1
    assert read("removed").select("id", "rule").rows() == [("faq:odd", "rare_category")]


def test_a_small_category_is_in_every_split() -> None:
    chats, metrics = run(faq(12))
    assert metrics["forced_categories"]
    assert chats.group_by("category").agg(pl.col("split").n_unique())["split"].to_list() == [3] * 3


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"sources": [source(), source()]}, r"each needs a name of its own"),
        ({"sources": [source(file="faq.csv")]}, r"raw/faq\.csv: no such file; raw holds \['faq-en\.jsonl'\]"),
    ],
)
def test_wrong_params_say_what_is_wrong(changed: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match=error):
        run(faq(), **changed)


def test_a_language_model_without_what_chats_need_is_an_error() -> None:
    Path("chat_model/chat_template.jinja").unlink()
    with pytest.raises(InputError, match="its tokenizer has no chat template"):
        run(faq())
    Path("chat_model/tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="chat_model: no tokenizer there"):
        run(faq())


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(InputError, match=r"has no row; is it the right file"):
        run([])
    with pytest.raises(InputError, match=r"raw: no chat is left of \['faq-en\.jsonl'\]"):
        run(faq(), max_length_tokens=8)


@pytest.mark.slow
def test_the_same_bytes_again_with_another_hash_seed_and_more_threads() -> None:
    unanswerable = context()["unanswerable"] | {"max_cosine": 0.99}
    run(faq(), context=context(unanswerable=unanswerable), label_task=LABEL_TASK, min_question_cosine=0.9999)

    before = bytes_below("data/instruct")
    assert set(read_json(instruct_data.COST)) == {"instruct_data_seconds"}
    assert set(before) == {f"data/instruct/{name}.parquet" for name in (*SPLITS, "prompts", "removed", "changed")}
    more = {"PYTHONHASHSEED": "2", "POLARS_MAX_THREADS": "2", "RAYON_NUM_THREADS": "2"}
    run_python("-m", "stages.instruct_data", cwd=None, status=0, **more)
    assert bytes_below("data/instruct") == before
