"""What a change does, for the person who decides on it: at most ten lines first, and below them what folds away.

`make diff BASE=<rev>` compares the revision with the working tree, writes `report/pull_request.md` and prints it.
Nothing is needed but git and the small files that it tracks; where `data/` lies, texts are shown too. What is compared,
and what is left out and named, is in docs/pull_requests.md.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from assay.core.errors import run_stage
from assay.core.outputs import write_text
from assay.core.params import load_params
from assay.report.page import templates_beside
from tools.changes import sections
from tools.changes.gate import GateParams, apply_rules, outcome_of, training_cost
from tools.changes.paired import SAME, compare_sides, seed_deviations
from tools.changes.revisions import commit_of
from tools.changes.sides import MISSING, Side, read_sides
from tools.changes.staleness import stale_stages
from tools.command_line import command_line

REPORT = Path("report/pull_request.md")
MAX_CHARACTERS = 65_536
"""GitHub takes no longer comment."""


def fit(first: str, tables: list[str], base: str) -> str:
    """The report with the tables that fit, and a line that says how many did not."""
    end = "{} longer tables do not fit in a comment: `git diff {} -- metrics params.yaml dvc.lock`"
    text, left_out = first, 0
    for table in filter(None, tables):
        fits = len(text) + len(table) + len(end) + len(base) + 9 <= MAX_CHARACTERS
        text, left_out = (f"{text}\n\n{table}", left_out) if fits else (text, left_out + 1)
    return text + (f"\n\n{end.format(left_out, base)}" if left_out else "") + "\n"


def report(old: Side, new: Side, base: str, commit: str, gate: GateParams | None) -> str:
    """The whole report as Markdown: `pull_request.jinja`, and the tables of `sections.jinja`."""
    rows, paired = compare_sides(old.predictions, new.predictions, seed_deviations(new.params))
    stale = stale_stages(new.lock, old.lock, new.params, Path())
    cost, _ = training_cost(old.metrics, new.metrics) or ("not measured on both sides", 0)
    rules = apply_rules(gate, old, new, rows, paired, stale) if gate else []
    environment = templates_beside(__file__, autoescape=False)
    environment.filters |= {"listed": sections.listed, "code": sections.code, "shown": sections.shown}
    environment.filters["largest_first"] = lambda ones: sorted(ones, key=lambda one: -abs(one.difference.value))
    values: dict[str, Any] = {"old": old, "new": new, "base": base, "commit": commit, "cost": cost, "missing": MISSING}
    values |= {"rows": rows, "paired": paired, "same": SAME, "arrow": sections.arrow}
    values |= {"rules": rules, "outcome": outcome_of(rules) if rules else None}
    values["moved"] = Counter(rows.relabelled.values()).most_common(2) if rows else []
    values["surely"] = [name for name, path in stale.items() if path[-1] != "?"]
    values["perhaps"] = [name for name, path in stale.items() if path[-1] == "?"]
    values["left_out"] = list(dict.fromkeys([*new.left_out, *old.left_out]))
    values |= {"stale": stale} | sections.values_of_tables(old, new, rows, paired)
    tables = environment.get_template("sections.jinja").render(values).split("\f")
    first = environment.get_template("pull_request.jinja").render(values).strip()
    return fit(first, [table.strip() for table in tables], base)


def main() -> None:
    """Write and print the report."""
    parser = command_line("python -m tools.changes.pull_request", __doc__)
    parser.add_argument("base", help="branch, tag or commit to compare the working tree with")
    base = parser.parse_args().base
    commit = commit_of(base)
    old, new = read_sides(commit)
    has_gate = isinstance(new.params, dict) and "gate" in new.params
    text = report(old, new, base, commit, load_params("gate", GateParams) if has_gate else None)
    write_text(REPORT, text)
    print(text)
    print(f"written to {REPORT}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
