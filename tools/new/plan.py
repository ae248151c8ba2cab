"""What `params.yaml` has to say of data, found by reading them as `ingest` or `instruct_data` will."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import yaml

from assay.core.errors import InputError
from assay.core.params import load_params
from assay.core.seeds import keyed_uniform
from assay.sources.annotation_tools import SourceLayout, lay_out
from assay.sources.provenance import content_ids
from assay.sources.records import LATER_COLUMNS, RECORDS_SCHEMA, IngestParams, ingest_source, label_sources
from tools.new.columns import WORDS, find_roles, names_in, part_of
from tools.new.files import Data, convert
from tools.new.warnings import FEW_ROWS, warn_of_labels, warn_of_raters, warn_of_texts
from tools.params.preset import edit_values

FIXED: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("values.yaml").read_text(encoding="utf-8"))
LIMITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Of `max_reject_fraction`: with more rows that cannot be used, the columns are not what they seem."""


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


def read_sources(
    text: str, section: str, model: Any, data: Data, read_one: Callable[..., Any]
) -> tuple[Any, list[Any]]:
    """A section of a text of `params.yaml`, and what its sources read, from where the files lie now.

    Its `max_reject_fraction` is the first of `LIMITS` that will do. Raises as `read_one` does.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "params.yaml"
        file.write_text(text, encoding="utf-8")
        params = load_params(section, model, file)
    for limit in LIMITS:
        bearing = params.model_copy(update={"path": str(data.folder), "max_reject_fraction": limit})
        try:
            return bearing, [read_one(one, position, bearing) for position, one in enumerate(bearing.sources)]
        except InputError as error:
            if limit == LIMITS[-1] or "max_reject_fraction" not in str(error):
                raise
    raise AssertionError


def pick_tables(data: Data) -> tuple[Data, list[pl.DataFrame], str, list[str]]:
    """The files that have the columns of the largest, and are splits if one is train; cells, layout, what is unsure."""
    columns = set(max((one.table.cells for one in data.files), key=lambda cells: cells.height).columns)
    is_studio = {"id", "data", "annotations"} <= columns or {"id", "annotator", "lead_time"} <= columns
    is_doccano = columns in ({"id", "data", "label"}, {"id", "text", "labels"}, {"id", "data", "labels"})
    layout: SourceLayout = "label_studio" if is_studio else "doccano" if is_doccano else "table"
    has_parts = {one.part for one in data.files} > {"train"}
    kept = [one for one in data.files if set(one.table.cells.columns) == columns and (one.part or not has_parts)]
    left = [one.file for one in data.files if one not in kept]
    unsure = [f"left out, of other columns or no split: {', '.join(left)}"] if left else []
    unsure += [f"{len(kept)} files are taken for one table"] if len(kept) > 1 and not has_parts else []
    kept = [one if has_parts else replace(one, part=None) for one in kept]
    paths = [data.folder / one.file for one in kept]
    tables = [lay_out(one.table, layout, path, one.file)[0].cells for one, path in zip(kept, paths, strict=True)]
    if is_studio:
        # A row an annotation: of each task one, and without what the tool adds.
        tables = [table.unique("id", keep="first", maintain_order=True) for table in tables]
        own = re.compile(WORDS["of_label_studio"])
        tables = [table.select(name for name in table.columns if not own.fullmatch(name)) for table in tables]
    return replace(data, files=kept), tables, layout, unsure


def list_sources(data: Data, source: str, name: str) -> list[dict[str, Any]]:
    """An entry of `sources` for each file, with what it does not share with the first."""
    entries = []
    for one in data.files:
        of_file = re.sub(r"\W+", "_", f"{one.file.partition('.')[0]}_{one.reading['sheet'] or ''}", flags=re.ASCII)
        provenance = {"url": source, "licence": None, "retrieved": date.today().isoformat(), "authenticity": "real"}
        differs = {key: value for key, value in one.reading.items() if value != data.files[0].reading[key]}
        own = {"name": of_file.strip("_") if len(data.files) > 1 else name}
        entries.append(own | provenance | {"file": one.file} | differs)
    return entries


def add_ids(data: Data, tables: list[pl.DataFrame], roles: dict[str, Any], scratch: Path, name: str) -> Data:
    """The data with a `row_id` made from the text, by which ratings are joined: judgements of one text share theirs."""
    rows = []
    for one, table in zip(data.files, tables, strict=True):
        texts = table[names_in([roles["text"]])[-1]].fill_null("")
        keys = texts.unique(maintain_order=True) if "rater" in roles else texts
        ids = content_ids(keys, pl.repeat(None, len(keys), dtype=pl.String, eager=True))
        table = table.with_columns(row_id=texts.replace_strict(keys, ids) if "rater" in roles else ids)
        rows += [row | ({"given_split": one.part} if one.part else {}) for row in table.to_dicts()]
    return convert(rows, scratch, name, f"{data.rule or 'as it is'}; `row_id`, a hash of the text, is added")


def require_learnable(records: pl.DataFrame, source: str, roles: dict[str, Any]) -> None:
    """Raise `InputError`: no row has a text, all have one label, or each has another."""
    labels = records["label"].drop_nulls()
    label, distinct = roles.get("label", "the ratings"), labels.n_unique()
    first, another = labels.first(), "--label names another column"
    for holds, problem in (
        (not records.height, f"column {roles['text']!r} is empty in all rows; --text names another column"),
        (distinct < 2, f"all {len(labels)} rows have the label {first!r} in {label!r}, and two are needed; {another}"),
        (
            distinct == len(labels),
            f"each of {distinct} rows has its own label in {label!r}, such as {first!r}; {another}",
        ),
    ):
        if holds:
            raise InputError(f"{source}: {problem}")


def plan_labels(
    data: Data, source: str, name: str, given: dict[str, Any], text: str, scratch: Path, doubts: Sequence[str] = ()
) -> Plan:
    """What a classifier needs of the data; `doubts` are kept.

    Raises `InputError`: as `find_roles`, `ingest_source` and `require_learnable` do.
    """
    params = yaml.safe_load(text)
    data, tables, layout, unsure = pick_tables(data)
    roles, found = find_roles(tables, given | ({"id": "id"} if layout == "label_studio" else {}))
    unsure = [*doubts, *unsure, *found]
    judged = roles.keys() & {"raters", "rater", "ratings"}
    if judged and "id" not in roles:
        data, given = add_ids(data, tables, roles, scratch, name), roles | {"id": "row_id"}
        return plan_labels(data, source, name, given, text, scratch, unsure)
    columns = {role: roles[role] for role in ("id", "text", "label", "reference_label") if role in roles}
    ratings: dict[str, Any] = {key: roles[key] for key in ("id", "raters", "ratings") if key in roles}
    if "rater" in roles:
        ratings |= {"annotator": roles["rater"], "rating": columns.pop("label")}
    group, column, splits = roles.get("group"), roles.get("split"), None
    carried = f"my_{group}" if group in {*RECORDS_SCHEMA, *LATER_COLUMNS} else group
    carry: list[Any] = [{"name": carried, "column": group, "pattern": None}] if group else []
    if data.files[0].part:
        splits = {part: part for part in WORDS["splits"]}
    elif column:
        carry.append({"name": "given_split", "column": column, "pattern": None})
        splits = {value: part_of(value or "") for table in tables for value in table[column].unique().sort()}
        if None in splits.values():
            raise InputError(f"{source}: --split {column}: of its values {list(splits)[:9]} some name no split")
    entries = list_sources(data, source, name)
    for one, entry in zip(data.files, entries, strict=True):
        own = [{"name": "given_split", "constant": one.part}] if one.part else []
        entry |= {"columns": columns, "carry": [*carry, *own]}
        if judged:
            repeated = {"repeated": "last" if "rater" in roles else "error"}
            unrated = {"not_rated": ["NA", "N/A", "n/a", "-"], "exclude_slots": list[str]()}
            entry["ratings"] = {"file": one.file, "columns": ratings, **unrated, **repeated}
    reading = {f"ingest.source_defaults.{key}": value for key, value in data.files[0].reading.items()}
    values = FIXED["both"] | FIXED["classification"] | reading
    values |= {"ingest.source_defaults.layout": layout, "ingest.sources": entries}
    values |= {"split.group_column": carried, "split.given_column": "given_split" if splits else None}
    values |= {"split.given_values": splits} if splits else {}
    joining = values | {"ingest.forms": {"labels": "join", "ids": "error"}}
    ingest, read = read_sources(edit_values(text, joining), "ingest", IngestParams, data, ingest_source)
    values["ingest.max_reject_fraction"] = ingest.max_reject_fraction
    seed: int = params["seed"]
    sources, joined = label_sources(read, ingest, lambda ids: keyed_uniform(ids, seed, "ingest", "given_label"))
    records = pl.concat([one.records for one in sources.values()], how="diagonal")
    votes = pl.concat([one.ratings for one in sources.values()])
    require_learnable(records, source, roles)
    of_label = records.drop_nulls("label").group_by("label").agg(n=pl.col(carried or "text").n_unique())
    fewest: Any = of_label["n"].min()
    if carried and not splits and fewest < len(WORDS["splits"]):
        unsure = [*doubts, f"group: {group} is not used, since all rows of a label are in {fewest} of its values"]
        return plan_labels(data, source, name, given | {"group": None}, text, scratch, unsure)
    rows_in = sum(one.rows_in - int((one.removed["rule"] == "text_repeated").sum()) for one in read)
    values["ingest.forms"] = {"labels": "join" if joined.height else "error", "ids": "error"}
    values |= {"split.rare_labels": "remove"} if fewest < FEW_ROWS else {}
    said, of_raters = warn_of_raters(votes, params["annotation_qa"]["min_krippendorff_alpha"])
    said += warn_of_labels(records, rows_in, joined)
    said += warn_of_texts(records["text"], params, "embed.max_length_tokens", params["embed"]["max_length_tokens"])
    shown = ("label", "reference_label", carried, "given_split", "text")
    rows = records.select(one for one in shown if one in records.columns and records[one].count())
    return Plan(data, values | of_raters, rows, roles, unsure, said)


def plan_chats(data: Data, layout: dict[str, Any], source: str, name: str, text: str) -> Plan:
    """What the language model needs of the data, and a classification track of its texts. Raises as `read_source`."""
    from assay.instruction_data.params import InstructDataParams
    from assay.instruction_data.read import read_source

    params, entries = yaml.safe_load(text), list_sources(data, source, name)
    passages = "given" if layout["kind"] == "squad" or layout.get("context") else "none"
    passages = "search" if layout["kind"] == "columns" and passages == "none" else passages
    entries = [entry | {"layout": layout, "passages": passages} for entry in entries]
    own = {"name": f"{name}_texts", "file": "texts.jsonl", "columns": {"id": "id", "text": "text", "label": "label"}}
    own |= {key: entries[0][key] for key in ("url", "licence", "retrieved", "authenticity")} | {"carry": ["chat"]}
    reading = {f"instruct_data.source_defaults.{key}": value for key, value in data.files[0].reading.items()}
    values = FIXED["both"] | FIXED["chats"] | reading | {"instruct_data.sources": entries, "ingest.sources": [own]}
    instruct, read = read_sources(edit_values(text, values), "instruct_data", InstructDataParams, data, read_source)
    values["instruct_data.max_reject_fraction"] = instruct.max_reject_fraction
    records, rows_in = pl.concat([one.records for one in read]), sum(one.rows_in for one in read)
    message = pl.col("messages").struct
    turns = records.select("category", "messages", chat="id").explode("messages")
    turns = turns.select("category", "chat", role=message.field("role"), text=message.field("content"))
    turns = turns.filter(pl.col("role") != "system").with_columns(
        id=pl.format("{}-{}", "chat", pl.int_range(1, pl.len() + 1).over("chat")),
        kind=pl.col("role").replace({"user": "question", "assistant": "answer"}),
    )
    by_category = records["category"].value_counts().filter(pl.col("count") >= FEW_ROWS).height > 1
    texts = turns.filter(role="user") if by_category else turns
    told = "questions by their category" if by_category else "questions from answers, whose scores say nothing"
    unsure = [f"classification has no switch: two baselines tell {told}", "training on preferences is off"]
    said = warn_of_texts(turns["text"], params, "instruct_data.max_length_tokens", instruct.max_length_tokens)
    if any("the encoder" in one for one in said):
        said.append("`instruct_data.context` asks and refuses in English: write prompt and refusal in that language")
    if rows_in > records.height:
        said.append(f"{rows_in - records.height} of {rows_in} records cannot be used: they are removed")
    if params["language_model"] not in [one["path"] for one in params["fetch"]["assets"].values()]:
        said.append(f"no asset is `language_model` = {params['language_model']}: take it back into `fetch.assets`")
    rows = turns.pivot("kind", index="chat", values="text", aggregate_function="first").drop("chat")
    chosen = {key: value for key, value in layout.items() if value}
    return Plan(
        data,
        values,
        rows,
        chosen,
        unsure,
        said,
        texts.select("id", "chat", "text", label="category" if by_category else "kind"),
    )
