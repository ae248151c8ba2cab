"""Predict the label of every row of a table, in batches, in memory that does not grow with the table.

    make predict MODEL=full INPUT=texts.csv OUTPUT=labels.csv
    make predict MODEL=full INPUT=mails.xlsx OUTPUT=labels.jsonl COLUMN=body PRECISION=0.9

MODEL is an approach of `models/finetuned/` or a folder. INPUT and OUTPUT are .csv, .tsv, .jsonl (all also .gz),
.parquet or .xlsx. The output has all rows and columns of the input, and `label`, `probability`, `is_sure` and `reason`
(`predicted_label` and so on, where the input has such a column); docs/inference.md says what they mean. A record that
cannot be read is a row with its reason alone. Texts are cleaned as the training data were.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from assay.classifiers.predict import is_baseline
from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.params import load_params
from assay.core.progress import progress, quiet_libraries
from assay.core.row_batches import write_part
from assay.inference import load
from assay.inference.classifier import BATCH_SIZE
from assay.inference.table_windows import format_of, read_windows
from assay.sources.table_files import SEPARATORS, as_text

MODELS = Path("models/finetuned")
OURS = ("label", "probability", "is_sure", "reason")
MARK = "assay: "
"""Before the names of our columns, until all names of the input are known."""
EXCEL_ROWS, EXCEL_CHARACTERS = 1_048_575, 32_767


def choose_column(columns: list[str], chosen: str | None, path: Path) -> str:
    """The column with the texts: the one chosen, else `text`, else the only one. Raises `InputError`: there is none."""
    column = chosen or (columns[0] if len(columns) == 1 else "text")
    if column not in columns:
        raise InputError(f"{path}: no column {column!r}; it has {columns}: name one by COLUMN=…")
    return column


def without_nesting(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with lists, objects and bytes as text, as `ingest` reads them."""
    nested = [one for one in rows if one.dtype.is_nested() or one.dtype == pl.Binary]
    return rows.with_columns(pl.Series(one.name, map(as_text, one.to_list()), dtype=pl.String) for one in nested)


def write_table(parts: list[Path], names: list[str], path: Path) -> str:
    """Write parts with the columns `names` and ours as one file, in one rename; returns what is before our names."""
    prefix = ""
    while {prefix + name for name in OURS} & set(names):
        prefix += "predicted_"
    ours = [pl.col(MARK + name).alias(prefix + name) for name in OURS]
    table = pl.concat([pl.scan_parquet(part) for part in parts], how="diagonal").select(*names, *ours)
    kind, partial = format_of(path), path.with_name(f".{path.name}.partial")
    packing: Any = {"compression": "gzip" if path.suffix == ".gz" else "uncompressed", "check_extension": False}
    try:
        match kind:
            case "parquet":
                table.sink_parquet(partial)
            case "jsonl":
                table.sink_ndjson(partial, **packing)
            case "xlsx":
                write_sheet(table.collect(), partial)
            case _:
                # As `ingest` reads it, a tsv has no quotes, unless a cell could not do without.
                breaks = pl.any_horizontal(pl.lit(value=False), pl.col(pl.String).str.contains(r"[\t\r\n]")).any()
                bare = kind == "tsv" and not table.select(breaks).collect().item()
                style: Any = "never" if bare else "necessary"
                table.sink_csv(partial, separator=SEPARATORS[kind], quote_style=style, **packing)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return prefix


def write_sheet(table: pl.DataFrame, path: Path) -> None:
    """Write an Excel sheet: texts without the characters that it cannot hold, and never as formulas."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    longest = max(
        (int(one.str.len_chars().fill_null(0).max() or 0) for one in table if one.dtype == pl.String), default=0
    )  # type: ignore[arg-type]
    if table.height > EXCEL_ROWS or longest > EXCEL_CHARACTERS:
        raise InputError(
            f"{table.height:,} rows, and {longest:,} characters in a cell: Excel holds {EXCEL_ROWS:,} rows and "
            f"{EXCEL_CHARACTERS:,} characters; write .csv or .parquet"
        )
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in (tuple(table.columns), *table.iter_rows()):
        values = (ILLEGAL_CHARACTERS_RE.sub("", value) if isinstance(value, str) else value for value in row)
        cells = [WriteOnlyCell(sheet, value) for value in values]
        for cell in cells:
            cell.data_type = "s" if cell.data_type == "f" else cell.data_type
        sheet.append(cells)
    book.save(path)


def main() -> None:
    """Predict."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tools.predict", description=__doc__, formatter_class=raw)
    parser.add_argument("model", help="an approach of models/finetuned, or a folder")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--column", help="with the texts; default: text, or the only one")
    parser.add_argument("--precision", type=float, help="wanted of labels that are sure; default: that of params.yaml")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help=f"texts at a time; default: {BATCH_SIZE}")
    parser.add_argument("--separator", help="between the cells of the input; default: a comma in csv, a tab in tsv")
    chosen = parser.parse_args()
    kind = format_of(chosen.output)
    total, windows = read_windows(chosen.input, chosen.separator)
    folder = MODELS / chosen.model if (MODELS / chosen.model).is_dir() else Path(chosen.model)
    device = None if is_baseline(folder) else prepare_device(load_params("compute", Compute))
    quiet_libraries()
    classifier = load(folder, wanted_precision=chosen.precision, device=device)
    print(f"predict: {classifier.threshold}", file=sys.stderr)
    if classifier.rules_not_applied:
        rules = ", ".join(classifier.rules_not_applied)
        print(f"predict: cleaning rules for some sources alone are not applied: {rules}", file=sys.stderr)

    column: str | None = None
    names: dict[str, None] = {}
    labels, reasons, unsure = Counter[str](), Counter[str](), 0
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".predict-", dir=chosen.output.parent) as scratch:
        for number, (rows, unreadable) in enumerate(progress(windows, "predict", total, "batch of rows")):
            column = column or choose_column(rows.columns, chosen.column, chosen.input)
            # In JSON lines a key may be in none of a window.
            texts = rows.get_column(column, default=pl.Series([None] * rows.height))
            found = classifier.predict([as_text(value) for value in texts], chosen.batch_size)
            found = found.with_columns(reason=pl.coalesce(unreadable, "reason"))
            names |= dict.fromkeys(rows.columns)
            labels.update(found["label"].drop_nulls())
            reasons.update(found["reason"].drop_nulls().str.extract("^([^:]*)"))
            unsure += found.filter(~pl.col("is_sure"), pl.col("label").is_not_null()).height
            rows = rows if kind in ("parquet", "jsonl") else without_nesting(rows)
            write_part(rows.hstack(found.rename(MARK.__add__)), Path(scratch), 0, number)
        if not labels and not reasons:
            raise InputError(f"{chosen.input}: has no row")
        prefix = write_table(sorted(Path(scratch).glob("*.parquet")), list(names), chosen.output)
    shown = [f"{name} {count:,}" for name, count in labels.most_common()]
    why = ", ".join(f"{name} {count:,}" for name, count in reasons.most_common())
    print(
        f"predict: {labels.total() + reasons.total():,} rows in {chosen.output}: {', '.join(shown) or 'no label'}; "
        f"not sure {unsure:,}; without a label {reasons.total():,}{f' ({why})' if why else ''}"
        + (f"; the input has columns of our names, so ours begin with {prefix}" if prefix else "")
    )


if __name__ == "__main__":
    run_stage(main)
