"""Predict the label of every row of a table, in batches, in memory that does not grow with the table.

    make predict MODEL=full INPUT=texts.csv OUTPUT=labels.csv
    make predict MODEL=full INPUT=mails.xlsx OUTPUT=labels.jsonl COLUMN=body PRECISION=0.9

MODEL is an approach of `models/finetuned/` or a folder. INPUT and OUTPUT are .csv, .tsv, .jsonl (all also .gz),
.parquet or .xlsx. The output has all rows and columns of the input, and `label`, `probability`, `is_sure` and `reason`
(`predicted_label` and so on, where the input has such a column); docs/inference.md says what they mean. A record that
cannot be read is a row with its reason alone. Texts are cleaned as the training data were.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from assay.classifiers.predict import needs_no_device
from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import partial_path
from assay.core.params import load_params
from assay.core.progress import progress
from assay.core.row_batches import write_part
from assay.inference import load
from assay.inference.classifier import BATCH_SIZE, Classifier
from assay.inference.table_windows import format_of, read_windows
from assay.sources.table_files import SEPARATORS, as_text
from tools.command_line import command_line

MODELS = Path("models/finetuned")
OURS = ("label", "probability", "is_sure", "reason")
MARK = "assay: "
"""Before the names of our columns, until all names of the input are known."""
EXCEL_ROWS, EXCEL_CHARACTERS = 1_048_575, 32_767


def load_model(model: str, wanted_precision: float | None) -> tuple[Path, Classifier]:
    """The folder of an approach, or the folder itself, and its model on the device of params; says how sure it is."""
    folder = MODELS / model if (MODELS / model).is_dir() else Path(model)
    device = None if needs_no_device(folder) else prepare_device(load_params("compute", Compute))
    classifier = load(folder, wanted_precision=wanted_precision, device=device)
    print(f"{model}: {classifier.threshold}", file=sys.stderr)
    if rules := ", ".join(classifier.rules_not_applied):
        print(f"{model}: cleaning rules for some sources alone are not applied: {rules}", file=sys.stderr)
    return folder, classifier


def write_table(parts: list[Path], names: list[str], path: Path) -> str:
    """Write parts with the columns `names` and ours as one file, in one rename; returns what is before our names."""
    prefix = ""
    while {prefix + name for name in OURS} & set(names):
        prefix += "predicted_"
    ours = [pl.col(MARK + name).alias(prefix + name) for name in OURS]
    table = pl.concat([pl.scan_parquet(part) for part in parts], how="diagonal").select(*names, *ours)
    kind = format_of(path)
    packing: Any = {"compression": "gzip" if path.suffix == ".gz" else "uncompressed", "check_extension": False}
    with partial_path(path) as partial:
        if kind == "parquet":
            table.sink_parquet(partial)
        elif kind == "jsonl":
            table.sink_ndjson(partial, **packing)
        elif kind == "xlsx":
            write_sheet(table.collect(), partial)
        else:
            # As `ingest` reads it, a tsv has no quotes, unless a cell could not do without.
            breaks = pl.any_horizontal(pl.lit(value=False), pl.col(pl.String).str.contains(r"[\t\r\n]")).any()
            bare = kind == "tsv" and not table.select(breaks).collect().item()
            style: Any = "never" if bare else "necessary"
            table.sink_csv(partial, separator=SEPARATORS[kind], quote_style=style, **packing)
        partial.replace(path)
    return prefix


def write_sheet(table: pl.DataFrame, path: Path) -> None:
    """Write an Excel sheet: texts without the characters that it cannot hold, and never as formulas."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    longest = max(length or 0 for length in table.select(pl.col(pl.String).str.len_chars().max()).row(0))
    if table.height > EXCEL_ROWS or longest > EXCEL_CHARACTERS:
        raise InputError(
            f"{path}: Excel holds {EXCEL_ROWS:,} rows, and {EXCEL_CHARACTERS:,} characters in a cell: write .csv"
        )
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in (tuple(table.columns), *table.iter_rows()):
        cells = [WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("", v) if isinstance(v, str) else v) for v in row]
        for cell in cells:
            cell.data_type = "s" if cell.data_type == "f" else cell.data_type
        sheet.append(cells)
    book.save(path)


def main() -> None:
    """Predict."""
    parser = command_line("python -m tools.predict", __doc__, whole=True)
    parser.add_argument("model", help="an approach of models/finetuned, or a folder")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--column", help="with the texts; default: text, or the only one")
    parser.add_argument("--precision", type=float, help="wanted of labels that are sure; default: that of params.yaml")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help=f"texts at a time; default: {BATCH_SIZE}")
    parser.add_argument("--separator", help="between the cells of the input; default: a comma in csv, a tab in tsv")
    chosen = parser.parse_args()
    kind, _ = format_of(chosen.output), format_of(chosen.input)
    _, classifier = load_model(chosen.model, chosen.precision)
    column, names = chosen.column or "text", dict[str, None]()
    labels, reasons, unsure = Counter[str](), Counter[str](), 0
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    with partial_path(chosen.output.with_name(f"{chosen.output.name}.parts")) as scratch:
        scratch.mkdir()
        windows = progress(read_windows(chosen.input, chosen.separator), "predict", None, "batch of rows")
        for number, (rows, unreadable) in enumerate(windows):
            names |= dict.fromkeys(rows.columns)
            if number == 0 and len(names) == 1:
                column = chosen.column or next(iter(names))
            if number == 0 and column not in names:
                raise InputError(f"{chosen.input}: no column {column!r}; it has {list(names)}: name one by COLUMN=…")
            # In JSON lines a key may be in none of a window.
            texts = rows.get_column(column, default=pl.Series([None] * rows.height))
            found = classifier.predict([as_text(value) for value in texts], chosen.batch_size)
            found = found.with_columns(reason=pl.coalesce(unreadable, "reason"))
            labels.update(found["label"].drop_nulls())
            reasons.update(found["reason"].drop_nulls().str.extract("^([^:]*)"))
            unsure += found.filter(~pl.col("is_sure"), pl.col("label").is_not_null()).height
            if kind not in ("parquet", "jsonl"):
                # As text, as `ingest` reads them.
                nested = [one for one in rows if one.dtype.is_nested() or one.dtype == pl.Binary]
                rows = rows.with_columns(pl.Series(x.name, map(as_text, x.to_list()), dtype=pl.String) for x in nested)
            write_part(rows.hstack(found.rename(MARK.__add__)), scratch, 0, number)
        if not labels and not reasons:
            raise InputError(f"{chosen.input}: has no row")
        prefix = write_table(sorted(scratch.glob("*.parquet")), list(names), chosen.output)
    shown = [f"{name} {count:,}" for name, count in labels.most_common()]
    why = ", ".join(f"{name} {count:,}" for name, count in reasons.most_common())
    print(
        f"predict: {labels.total() + reasons.total():,} rows in {chosen.output}: {', '.join(shown) or 'no label'}; "
        f"not sure {unsure:,}; without a label {reasons.total():,}{f' ({why})' if why else ''}"
        + (f"; the input has columns of our names, so ours begin with {prefix}" if prefix else "")
    )


if __name__ == "__main__":
    run_stage(main)
