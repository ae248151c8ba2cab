"""The results of both tracks, on the terminal and in the README.

`python -m tools.changes.readme_results` prints them at the end of `make repro`; `--write README.md` (`make readme`)
puts the same figures between the markers of a Markdown file.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_text
from assay.report.plots import number, score
from stages.report import REPORT, SUMMARY, ranked, verdict

GENERATION_SUMMARY = Path("metrics/optional/generation_summary.json")
HEADER = (
    "approach",
    "macro-F1 [95% interval]",
    "accuracy [95% interval]",
    "train, s",
    "peak MiB",
    "trainable parameters",
)
MODELS_HEADER = (
    "language model",
    "answer perplexity [95% interval]",
    "chrF [95% interval]",
    "label right [95% interval]",
    "mean reward [95% interval]",
)


def with_interval(scores: dict[str, Any], name: str) -> str:
    """A score and its interval, `–` where the model was not asked."""
    if scores.get(name) is None:
        return "–"
    return f"{score(scores[name])} [{score(scores[f'{name}_ci95_low'])}, {score(scores[f'{name}_ci95_high'])}]"


def result_rows(summary: dict[str, Any]) -> list[list[str]]:
    """One row per approach and baseline, best first, in the columns of HEADER."""
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


def model_rows(generation: dict[str, Any]) -> list[list[str]]:
    """One row per language model, in the order of `generation_models`, in the columns of MODELS_HEADER."""
    columns = (("answer", "perplexity"), ("answer", "chrf"), ("label", "exact_match"), ("answer", "reward"))
    return [
        [name, *(with_interval(tasks.get(task, {}), key) for task, key in columns)]
        for name, tasks in generation["models"].items()
    ]


def left_out(summary: dict[str, Any]) -> list[str]:
    """A sentence for each approach that this machine cannot run."""
    return [f"{name} is not in the comparison: {reason}" for name, reason in summary["left_out"].items()]


def terminal_table(header: Sequence[str], body: list[list[str]]) -> str:
    """Results in columns; names at the left, figures at the right."""
    rows = [list(header), *body]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def markdown_table(header: Sequence[str], body: list[list[str]]) -> str:
    """Results as a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def markdown_parts(summary: dict[str, Any], generation: dict[str, Any]) -> dict[str, str]:
    """What stands between the markers of each name: the table of a track, and what is to be said of it."""
    return {
        "results": "\n\n".join(
            [markdown_table(HEADER, result_rows(summary)), verdict(summary).sentence, *left_out(summary)]
        ),
        "generation": "\n\n".join([markdown_table(MODELS_HEADER, model_rows(generation)), *left_out(generation)]),
    }


def between_markers(text: str, name: str, content: str, path: Path) -> str:
    """`text` with what stands between the markers of a name replaced.

    Raises:
        InputError: the markers are not there once each, in order.
    """
    begin, end = f"<!-- {name}: `make readme` writes them from metrics/ -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(f"{path}: needs one line `{begin}` and below it one line `{end}`")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{content}\n{end}{after}"


def main() -> None:
    """Print the results, or write them into a Markdown file."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.changes.readme_results", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file with the markers")
    path = parser.parse_args().write
    summary, generation = read_json(SUMMARY), read_json(GENERATION_SUMMARY)
    if path is not None:
        text = path.read_text(encoding="utf-8")
        for name, content in markdown_parts(summary, generation).items():
            text = between_markers(text, name, content, path)
        write_text(path, text)
        print(f"{path}: results of {SUMMARY} and {GENERATION_SUMMARY} written")
        return
    print(f"\n{terminal_table(HEADER, result_rows(summary))}\n")
    print("\n".join([verdict(summary).sentence, *left_out(summary)]))
    print(f"\n{terminal_table(MODELS_HEADER, model_rows(generation))}\n")
    print("\n".join([*left_out(generation), f"Report: {REPORT}"]))


if __name__ == "__main__":
    run_stage(main)
