"""The results of `metrics/summary.json`, on the terminal and in the README.

`python -m tools.results` prints them at the end of `make repro`; `--write README.md` (`make readme`) puts the same
figures between the markers of a Markdown file.
"""

import argparse
from pathlib import Path
from typing import Any

from stages.lib.artifacts import read_json, write_text
from stages.lib.errors import InputError, run_stage
from stages.lib.report_plots import number, score
from stages.report import REPORT, SUMMARY, ranked, verdict

BEGIN = "<!-- results: `make readme` copies them from metrics/summary.json -->"
END = "<!-- /results -->"
HEADER = (
    "approach",
    "macro-F1 [95% interval]",
    "accuracy [95% interval]",
    "train, s",
    "peak MiB",
    "trainable parameters",
)


def result_rows(summary: dict[str, Any]) -> list[list[str]]:
    """One row per approach and baseline, best first, in the columns of HEADER."""

    def with_interval(scores: dict[str, Any], name: str) -> str:
        return f"{score(scores[name])} [{score(scores[f'{name}_ci95_low'])}, {score(scores[f'{name}_ci95_high'])}]"

    return [
        [
            f"{name} (baseline)" if name in summary["baselines"] else name,
            with_interval(scores, "macro_f1"),
            with_interval(scores, "accuracy"),
            number(scores["train_seconds"]),
            number(scores["peak_memory_mib"]),
            number(scores["trainable_parameters"]),
        ]
        for name, scores in ranked(summary)
    ]


def left_out(summary: dict[str, Any]) -> list[str]:
    """A sentence for each approach that this machine cannot run."""
    return [f"{name} is not in the comparison: {reason}" for name, reason in summary["left_out"].items()]


def terminal_table(summary: dict[str, Any]) -> str:
    """The results in columns; names at the left, figures at the right."""
    rows = [list(HEADER), *result_rows(summary)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def markdown_table(summary: dict[str, Any]) -> str:
    """The results as a Markdown table with the verdict under it."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---" + "|---:" * (len(HEADER) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in result_rows(summary)]
    return "\n\n".join(["\n".join(lines), verdict(summary).sentence, *left_out(summary)])


def between_markers(text: str, content: str, path: Path) -> str:
    """`text` with what stands between the markers replaced.

    Raises:
        InputError: the markers are not there once each, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{path}: needs one line `{BEGIN}` and below it one line `{END}`")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:start]}\n{content}\n{text[end:]}"


def main() -> None:
    """Print the results, or write them into a Markdown file."""
    parser = argparse.ArgumentParser(prog="python -m tools.results", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file with the markers")
    path = parser.parse_args().write
    summary = read_json(SUMMARY)
    if path is not None:
        write_text(path, between_markers(path.read_text(encoding="utf-8"), markdown_table(summary), path))
        print(f"{path}: results of {SUMMARY} written")
        return
    sentences = "\n".join([verdict(summary).sentence, *left_out(summary)])
    print(f"\n{terminal_table(summary)}\n\n{sentences}\nReport: {REPORT}")


if __name__ == "__main__":
    run_stage(main)
