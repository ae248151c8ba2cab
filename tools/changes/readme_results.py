"""The results of both tracks, on the terminal and in the README: those on these data and params, and no others.

`make repro` prints them at its end, and `python -m tools.changes.readme_results` at any time; with `--write README.md`
(`make readme`) it puts the same results between the markers of a Markdown file, with what they are of: sources and
models, by params.
"""

import re
from pathlib import Path
from typing import Any

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_text
from assay.core.params import load_params
from assay.core.results import NOT_RUN, metrics_files, read_own
from assay.report.comparison import say_verdict
from assay.report.language_models import show_score
from assay.report.page import templates_beside
from assay.report.sections import comparison_rows
from assay.report.summary import COSTS, REPORT, SUMMARY, ranked
from assay.statistics.verdicts import WORDS
from tools.command_line import command_line

GENERATION_SUMMARY = Path("metrics/optional/generation_summary.json")


def align_tables(text: str) -> str:
    """Markdown for the terminal: tables in columns, names at the left, numbers at the right; links as their texts."""

    def align(table: re.Match[str]) -> str:
        header, _, *body = [line.strip("| ").split(" | ") for line in table[0].splitlines()]
        widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in (header, *body)]
        return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])

    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"^\|.*\|$(\n\|.*\|$)+", align, text, flags=re.MULTILINE))


def read_cost(name: str) -> dict[str, Any]:
    """What training an approach took; nothing where it did not run on this machine."""
    file = COSTS / f"finetune/{name}.json"
    return dict(read_json(file)) if file.is_file() else {}


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


def track_texts(summary: dict[str, Any], generation: dict[str, Any]) -> dict[str, str]:
    """What is said of each track, by the name of its markers: what it is of, its table, and what comes of it.

    Of the generative track there is nothing where it is switched off.
    """
    environment = templates_beside(__file__, autoescape=False)
    environment.filters["score_of"] = show_score
    environment.globals |= {"ranked": ranked, "say_verdict": say_verdict, "describe_base": describe_base}
    environment.globals |= {"comparison_rows": comparison_rows, "cost_of": read_cost}
    environment.globals |= {"sources": lambda section: load_params(section, dict[str, Any])["sources"]}
    values = {"summary": summary, "generation": generation, "words": WORDS}
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
    for text in filter(None, track_texts(*read_results()).values()):
        print("\n" + align_tables(text))
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
