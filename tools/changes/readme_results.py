"""The results of both tracks, on the terminal and in the README: those on these data and params, and no others.

`make repro` prints them at its end, and `python -m tools.changes.readme_results` at any time; with `--write README.md`
(`make readme`) it puts the same results between the markers of a Markdown file, with what they are of: sources and
models, by params.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_text
from assay.core.params import load_params
from assay.core.results import NOT_RUN, metrics_files, read_own
from assay.report.comparison import say_verdict
from assay.report.language_models import show_score
from assay.report.numbers import number
from assay.report.sections import comparison_rows
from assay.report.summary import COSTS, REPORT, SUMMARY, ranked, show_interval
from assay.statistics.verdicts import WORDS
from tools.command_line import command_line

GENERATION_SUMMARY = Path("metrics/optional/generation_summary.json")
_COLUMNS = yaml.safe_load(Path(__file__).with_name("readme_results.yaml").read_text(encoding="utf-8"))
HEADER, MODELS_HEADER, PEOPLE = _COLUMNS["approaches"], _COLUMNS["models"], _COLUMNS["people"]
Table = Callable[[Sequence[str], list[list[str]]], str]


def result_rows(summary: dict[str, Any], costs: Path = COSTS / "finetune") -> list[list[str]]:
    """One row per approach and baseline, best first, then the raters, in the columns of HEADER.

    Without seconds and memory where an approach did not run on this machine.
    """
    files = [costs / f"{name}.json" for name, _ in ranked(summary)]
    spent = [read_json(file) if file.is_file() else {} for file in files] + [{} for _ in summary["raters"]]
    return [
        [*cells, *(number(of_it[key]) if key in of_it else "–" for key in ("train_seconds", "peak_memory_mib"))]
        for cells, of_it in zip(comparison_rows(summary), spent, strict=True)
    ]


def model_table(generation: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """MODELS_HEADER, with a column for what people judged, once they have; and a row per language model, in the order
    of `generation_models`, then per baseline."""
    scored = (("open", "perplexity"), ("closed", "perplexity"), ("open", "chrf"), ("retrieved", "chrf"))
    counted = (("open", "refused"), ("unanswerable", "refused"), ("label", "exact_match"))
    pairs, rows = generation["pairs"], []
    people = [PEOPLE] if any("people_win_rate" in pair for pair in pairs.values()) else []
    for name, modes in (generation["models"] | generation["baselines"]).items():
        is_baseline = name in generation["baselines"]
        beside = [generation["beside_copying"].get(mode, {}).get(name, {}) for mode in ("open", "retrieved")]
        rows.append(
            [
                f"{name.replace('_', ' ')} (baseline)" if is_baseline else name,
                *(show_score(modes.get(mode, {}), key) for mode, key in scored),
                *(f"{show_interval(one, 'chrf_difference')}, {one['word']}" if one else "–" for one in beside),
                *(show_score(modes.get(mode, {}), key) for mode, key in counted),
                *(show_interval(pairs.get(f"{name}_against_base", {}), "people_win_rate") for _ in people),
            ]
        )
    return [*MODELS_HEADER, *people], rows


def terminal_table(header: Sequence[str], body: list[list[str]]) -> str:
    """Results in columns; names at the left, numbers at the right."""
    rows = [list(header), *body]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def markdown_table(header: Sequence[str], body: list[list[str]]) -> str:
    """Results as a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def describe_base() -> str:
    """The model that the language models were trained from, with what to cite."""
    base, assets = load_params("language_model", str), load_params("fetch.assets", dict[str, dict[str, Any]])
    cites = [one["cite"] for one in assets.values() if one["cite"] and f"{base}/".startswith(f"{one['path']}/")]
    return f"`{base}`" + (f" ({cites[0]})" if cites else "")


def read_results() -> tuple[dict[str, Any], dict[str, Any]]:
    """The summaries of both tracks, the second empty where that is off or did not run.

    Raises `InputError`: `report` did not run on these data and params.
    """
    summary = read_own(SUMMARY)
    if summary is None:
        raise InputError(
            f"{SUMMARY}: `report` did not run on these data and params, so there are no results of yours: `make repro`"
        )
    return summary, read_own(GENERATION_SUMMARY) or {}


def track_texts(summary: dict[str, Any], generation: dict[str, Any], table: Table = markdown_table) -> dict[str, str]:
    """What is said of each track, by the name of its markers: what it is of, its table, and what comes of it.

    Of the generative track there is nothing where it is switched off.
    """
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    environment.globals |= {"ranked": ranked, "say_verdict": say_verdict, "describe_base": describe_base}
    environment.globals |= {"result_rows": result_rows, "model_table": model_table, "table": table}
    environment.globals |= {"sources": lambda section: load_params(section, dict[str, Any])["sources"]}
    values = {"summary": summary, "generation": generation, "header": HEADER, "words": WORDS}
    template, tracks = environment.get_template("readme_results.jinja"), ("results", "generation")
    texts = {track: template.render(values, track=track) for track in tracks}
    return {track: re.sub(r"\n{3,}", "\n\n", text).strip() for track, text in texts.items()}


def between_markers(text: str, name: str, content: str, path: Path) -> str:
    """`text` with what stands between the markers of a name replaced.

    Raises `InputError`: the markers are not there once each, in order.
    """
    begin, end = f"<!-- {name}: `make readme` writes them from metrics/ -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(f"{path}: needs one line `{begin}` and below it one line `{end}`")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{content}\n{end}{after}"


def print_results() -> None:
    """Print the results, what was left out, and what to do next. Raises `InputError`: there are none."""
    for text in filter(None, track_texts(*read_results(), terminal_table).values()):
        print("\n" + re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text))
    files = metrics_files()
    for stage, file in files.items():
        if read_own(file) is None:
            print(f"left out: {stage}: {NOT_RUN}")
    queue = "review_queue" in {name.partition("@")[0] for name in files}
    review = "`make review` shows rows worth a look; " if queue else ""
    print(f"\nNext: open {REPORT}; {review}`make diff BASE=main` says what changed; `make readme` writes README.md")


def main() -> None:
    """Print the results, or write them into a Markdown file."""
    parser = command_line("python -m tools.changes.readme_results", __doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file with the markers")
    path = parser.parse_args().write
    if path is None:
        print_results()
        return
    texts, text = track_texts(*read_results()), path.read_text(encoding="utf-8")
    for name, content in texts.items():
        text = between_markers(text, name, content, path)
    write_text(path, text)
    print(f"{path}: results of {SUMMARY} and {GENERATION_SUMMARY} written")


if __name__ == "__main__":
    run_stage(main)
