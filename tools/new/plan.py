"""What `params.yaml` has to say of data, found by reading them as `ingest` or `instruct_data` will."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import polars as pl
import yaml

from assay.core.errors import InputError
from assay.core.params import load_params
from assay.core.seeds import keyed_uniform
from assay.sources.annotation_tools import SourceLayout, lay_out
from assay.sources.provenance import content_ids
from assay.sources.records import IngestParams, ingest_source, label_sources
from assay.text.language import UNDETERMINED, detect_languages
from tools.new.columns import WORDS, find_roles, part_of
from tools.new.files import Data, convert
from tools.params.preset import edit_values

FIXED: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("values.yaml").read_text(encoding="utf-8"))
FEW_ROWS = 10
"""Of a label: with fewer, a split may have none."""
MOST_REJECTS = 0.5
"""With more rows that cannot be used, the columns are not what they seem."""
SAMPLE = 300
"""Texts whose language is looked at."""
SHOWN = 6
LEAST_STEPS, MOST_EPOCHS, PATIENCE_EPOCHS = 150, 20, 5
"""Steps of the optimizer that are to be had, and epochs for them (20: Mosbach et al. 2021, "On the Stability of
Fine-tuning BERT"). On 213 rows, two epochs are 14 steps, after which LoRA, QLoRA and the encoder gave each row the
most frequent label; of 15 epochs of LoRA the fourth was the best, and the second no better than the first."""


@dataclass(frozen=True)
class Plan:
    """What is to be written, by dotted path into `params.yaml`, and what is shown and said.

    `texts` are those of the classification track that goes with chats.
    """

    data: Data
    values: dict[str, Any]
    rows: pl.DataFrame
    chosen: dict[str, Any]
    unsure: list[str]
    warnings: list[str]
    texts: pl.DataFrame | None = None


def read_data(
    text: str, values: dict[str, Any], section: str, model: Any, folder: Path, read_one: Callable[..., Any]
) -> tuple[Any, Any]:
    """A section of `params.yaml` with other values, and what its source reads, from where the file lies now.

    `values` get a larger `max_reject_fraction` where it is needed. Raises as `read_one` does.
    """
    key = f"{section}.max_reject_fraction"
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".yaml") as file:
        file.write(edit_values(text, values | {key: MOST_REJECTS}))
        file.flush()
        params = load_params(section, model, Path(file.name)).model_copy(update={"path": str(folder)})
    read = read_one(params.sources[0], 0, params)
    # Half of what is allowed: the votes of these rows go, too, and may be more.
    limit = yaml.safe_load(text)[section]["max_reject_fraction"] / 2
    if read.removed.filter(pl.col("rule") != "text_repeated").height > limit * read.rows_in:
        values[key] = MOST_REJECTS
    return params, read


def lay_out_table(data: Data) -> tuple[pl.DataFrame, SourceLayout]:
    """The cells of the data, and their layout; of an annotation tool, a row a text without what the tool adds."""
    columns = set(data.table.cells.columns)
    is_studio = {"id", "data", "annotations"} <= columns or {"id", "annotator", "lead_time"} <= columns
    is_doccano = columns in ({"id", "data", "label"}, {"id", "text", "labels"}, {"id", "data", "labels"})
    layout: SourceLayout = "label_studio" if is_studio else "doccano" if is_doccano else "table"
    cells = lay_out(data.table, layout, data.folder / data.file, data.file)[0].cells
    if is_studio:
        cells = cells.unique("id", keep="first", maintain_order=True)
        cells = cells.select(pl.exclude(f"^({WORDS['of_label_studio']})$"))
    return cells, layout


def describe_source(source: str, name: str, file: str) -> dict[str, Any]:
    """An entry of `sources`; what is guessed of it is said."""
    today = date.today().isoformat()
    provenance = {"url": source, "licence": None, "retrieved": today, "authenticity": "real"}
    return {"name": name, **provenance, "file": file}


def add_ids(data: Data, cells: pl.DataFrame, roles: dict[str, Any], scratch: Path, name: str) -> Data:
    """The data with a `row_id` made from the text, by which ratings are joined: judgements of one text share theirs."""
    texts = cells[roles["text"]].fill_null("")
    keys = texts.unique(maintain_order=True) if "rater" in roles else texts
    ids = content_ids(keys, pl.repeat(None, len(keys), dtype=pl.String, eager=True))
    ids = texts.replace_strict(keys, ids) if "rater" in roles else ids
    rule = f"{data.rule or 'as it is'}; `row_id`, a hash of the text, is added"
    return convert(cells.with_columns(row_id=ids).to_dicts(), scratch, name, rule)


def require_learnable(records: pl.DataFrame, source: str, roles: dict[str, Any]) -> None:
    """Raise `InputError`: no row has a text, all have one label, or each has another."""
    labels = records["label"].drop_nulls()
    where = f"in {roles.get('label', 'the ratings')!r}, such as {labels.first()!r}; --label names another column"
    if not records.height:
        raise InputError(f"{source}: column {roles['text']!r} is empty in all rows; --text names another column")
    if (distinct := labels.n_unique()) < 2:
        raise InputError(f"{source}: all {len(labels)} rows have one label {where}; two are needed")
    if distinct == len(labels):
        raise InputError(f"{source}: each of {distinct} rows has its own label {where}")


def plan_labels(data: Data, source: str, name: str, given: dict[str, Any], text: str, scratch: Path) -> Plan:
    """What a classifier needs of the data. Raises as `find_roles`, `ingest_source` and `require_learnable`."""
    cells, layout = lay_out_table(data)
    roles, unsure = find_roles(cells, given | ({"id": "id"} if layout == "label_studio" else {}))
    judged = roles.keys() & {"raters", "rater", "ratings"}
    if judged and "id" not in roles:
        data, roles = add_ids(data, cells, roles, scratch, name), roles | {"id": "row_id"}
    columns = {role: roles[role] for role in ("id", "text", "label", "reference_label") if role in roles}
    ratings: dict[str, Any] = {key: roles[key] for key in ("id", "raters", "ratings") if key in roles}
    if "rater" in roles:
        ratings |= {"annotator": roles["rater"], "rating": columns.pop("label")}
    group, column = roles.get("group"), roles.get("split")
    entry = describe_source(source, name, data.file) | {"columns": columns, "carry": [group] if group else []}
    if judged:
        entry["ratings"] = FIXED["ratings"] | {"file": data.file, "columns": ratings}
        entry["ratings"] |= {"repeated": "last" if "rater" in roles else "error"}
    values = FIXED["both"] | FIXED["classification"] | {"ingest.sources": [entry], "split.group_column": group}
    values |= {f"ingest.source_defaults.{key}": value for key, value in data.reading.items()}
    values["ingest.source_defaults.layout"] = layout
    if column:
        entry["carry"].append({"name": "given_split", "column": column, "pattern": None})
        splits = {value: part_of(value or "") for value in cells[column].unique().sort()}
        values |= {"split.given_values": splits, "split.given_column": "given_split"}
        if None in splits.values():
            raise InputError(f"{source}: --split {column}: of its values {list(splits)[:9]} some name no split")
    ingest, read = read_data(text, values, "ingest", IngestParams, data.folder, ingest_source)
    params, draw = yaml.safe_load(text), ("ingest", "given_label")
    sources, joined = label_sources([read], ingest, lambda ids: keyed_uniform(ids, params["seed"], *draw))
    records, votes = sources[name].records, sources[name].ratings["label"].drop_nulls().unique().to_list()
    require_learnable(records, source, roles)
    removed = read.removed.filter(pl.col("rule") != "text_repeated").height
    if len(votes) > 2 and all(re.fullmatch(r"-?\d+", vote) for vote in votes):
        values["annotation_qa.label_order"] = sorted(votes, key=int)
    shown = ("label", "reference_label", group, "given_split", "text")
    rows = records.select(one for one in shown if one in records.columns and records[one].count())
    said = [*warn_of_labels(records["label"], removed, joined), *warn_of_language(records["text"], params)]
    if (labelled := records["label"].count()) < records.height:
        values["clean.missing.label"] = "pool"
    values |= (epochs := lengthen_training(params, labelled))
    unsure += [
        f"{labelled} labelled rows are few steps of training, so {key}: {epochs[key]}" for key in list(epochs)[:1]
    ]
    if records["reference_label"].count() and "reference_label" not in roles:
        unsure.append("label: of one rater, drawn by `seed`; reference_label, which scores test rows: of most of them")
    return Plan(data, values, rows, roles, unsure, said)


def lengthen_training(params: dict[str, Any], rows: int) -> dict[str, Any]:
    """More epochs, and more patience, where few rows make few steps."""
    blocks = params["finetune"]
    steps_an_epoch = rows * params["split"]["train_fraction"] / blocks["defaults"]["batch_size"]
    epochs = min(MOST_EPOCHS, math.ceil(LEAST_STEPS / steps_an_epoch))
    # The head of a probe has epochs of its own, many.
    short = [name for name, block in blocks.items() if block.get("max_epochs", epochs) < epochs]
    values: dict[str, Any] = {f"finetune.{name}.max_epochs": epochs for name in short}
    return values | ({"finetune.defaults.patience_epochs": PATIENCE_EPOCHS} if "defaults" in short else {})


def warn_of_labels(labels: pl.Series, removed: int, joined: pl.DataFrame) -> list[str]:
    """What will not go well with the labels of rows, beside which others are removed; `joined` as of `join_forms`."""
    counts = labels.drop_nulls().value_counts().sort("count", "label")
    missing, rows_in = labels.null_count(), len(labels) + removed
    few = [f"{label!r} ({count})" for label, count in counts.rows() if count < FEW_ROWS]
    forms = [f"{form!r} ({times} rows) as {kept!r}" for form, kept, times in joined.rows()]
    said = {
        f"{removed} of {rows_in} rows ({removed / rows_in:.0%}) have no text, or cannot be read, and go": removed,
        f"{missing} rows ({missing / len(labels):.0%}) have no label, and wait for one (docs/review.md)": missing,
        f"{counts.height} labels in {len(labels)} rows: ids, or free text?": 2 * counts.height > len(labels) - missing,
        f"look-alike labels: {', '.join(forms[:SHOWN])}; they are joined (`ingest.forms.labels`)": forms,
        f"{len(few)} labels with under {FEW_ROWS} rows: {', '.join(few[:SHOWN])}; one with too few to split goes": few,
    }
    return [sentence for sentence, holds in said.items() if holds]


def warn_of_language(texts: pl.Series, params: dict[str, Any]) -> list[str]:
    """Whether most texts are in a language that the encoder does not know."""
    sample = texts.gather_every(max(1, len(texts) // SAMPLE)).head(SAMPLE)
    counts = detect_languages(sample)["language"].value_counts().sort("count", "language", descending=[True, False])
    language, count = counts.row(0)
    known = params["profile"]["encoder_languages"]
    if not known or language in (*known, UNDETERMINED):
        return []
    said = f"{count} of {len(sample)} texts are in {language!r}, and the encoder {params['embed']['model']} speaks"
    return [f"{said} {known}: counts of words (`tfidf`) may do better; another encoder, prompts: docs/your_data.md"]


def plan_chats(data: Data, layout: dict[str, Any], source: str, name: str, text: str) -> Plan:
    """What the language model needs of the data, and a classification track of its texts. Raises as `read_source`."""
    from assay.instruction_data.params import InstructDataParams
    from assay.instruction_data.read import read_source

    is_given = layout["kind"] == "squad" or layout.get("context")
    passages = "given" if is_given else "search" if layout["kind"] == "columns" else "none"
    entry = describe_source(source, name, data.file) | {"layout": layout, "passages": passages}
    own = describe_source(source, f"{name}_texts", "texts.jsonl") | FIXED["texts"]
    values = FIXED["both"] | FIXED["chats"] | {"instruct_data.sources": [entry], "ingest.sources": [own]}
    values |= {f"instruct_data.source_defaults.{key}": value for key, value in data.reading.items()}
    _, read = read_data(text, values, "instruct_data", InstructDataParams, data.folder, read_source)
    message = pl.col("messages").struct
    turns = read.records.select("category", "messages", chat="id").explode("messages")
    turns = turns.select("category", "chat", role=message.field("role"), text=message.field("content"))
    turns = turns.filter(pl.col("role") != "system").with_columns(
        id=pl.format("{}-{}", "chat", pl.int_range(1, pl.len() + 1).over("chat")),
        kind=pl.col("role").replace({"user": "question", "assistant": "answer"}),
    )
    by_category = read.records["category"].value_counts().filter(pl.col("count") >= FEW_ROWS).height > 1
    told = "texts by their category" if by_category else "questions from answers, whose scores say nothing"
    unsure = [f"classification has no switch: two baselines tell {told}", "training on preferences is off"]
    said = warn_of_language(turns["text"], yaml.safe_load(text))
    if read.removed.height:
        said.append(f"{read.removed.height} of {read.rows_in} records cannot be used: they are removed")
    texts = turns.select("id", "chat", "text", label="category" if by_category else "kind")
    rows = turns.pivot("kind", index="chat", values="text", aggregate_function="first").drop("chat")
    return Plan(data, values, rows, {key: value for key, value in layout.items() if value}, unsure, said, texts)
