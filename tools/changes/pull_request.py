"""What a change does, for the person who decides on it: at most ten lines first, and below them what folds away.

`make diff BASE=<rev>` compares the revision with the working tree, writes `report/pull_request.md` and prints it.
Nothing is needed but git and the small files that it tracks; where `data/` lies, texts are shown too. What is compared,
and what is left out and named, is in docs/pull_requests.md.
"""

import sys
from collections import Counter
from pathlib import Path

from assay.core.errors import run_stage
from assay.core.outputs import write_text
from assay.core.params import load_params
from assay.report.numbers import score
from tools.changes import sections
from tools.changes.gate import BLOCKED, INCONCLUSIVE, PASS, GateParams, apply_rules, outcome_of, training_cost
from tools.changes.paired import SAME, Paired, SharedRows, compare_sides, seed_deviations
from tools.changes.revisions import commit_of
from tools.changes.sections import arrow, listed
from tools.changes.sides import MISSING, Side, read_sides
from tools.changes.staleness import stale_stages
from tools.command_line import command_line

MARKER = "<!-- assay -->"
"""First line of the report: the build machine finds its own comment by it."""
REPORT = Path("report/pull_request.md")
MAX_CHARACTERS = 65_536
"""GitHub takes no longer comment."""
MOST_NAMED = 4
"""Scores named in a line."""
ADVICE = {PASS: "no rule of `gate` in params.yaml is broken", BLOCKED: "do not merge this as it is"}
ADVICE[INCONCLUSIVE] = "the figures cannot tell, a person decides"


def title(rows: SharedRows | None, paired: list[Paired], base: str) -> str:
    """The verdict over all."""
    words = {word: [one.name for one in paired if one.word == word] for word in ("worse", "better")}
    found = "; ".join(f"{word} than on `{base}`: {listed(names)}" for word, names in words.items() if names)
    if rows is None and not paired:
        return f"No score can be compared with `{base}`"
    if rows is not None and rows.differ:
        undecided = "every prediction is the same" if all(one.word == SAME for one in paired) else "nothing is decided"
        common = f"; on the {len(rows.common):,} common rows {found or undecided}" if rows.common else ""
        return f"Not comparable: `{base}` has another test set{common}"
    if found:
        return found[0].upper() + found[1:]
    if all(one.word == SAME for one in paired):
        return f"Every prediction is as on `{base}`"
    return f"No score is decidedly better or worse than on `{base}`"


def score_lines(old: Side, new: Side, paired: list[Paired]) -> list[str]:
    """A line for each word that a score has, and one for what cannot be compared."""
    lines = []
    for word in ("worse", "better", "not decided"):
        found = sorted((one for one in paired if one.word == word), key=lambda one: -abs(one.difference.value))
        if not found:
            continue
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        detectable = max(one.difference.minimum_detectable or 0 for one in found)
        if detectable and word == "not decided":
            more += f". A true difference of {score(detectable)} would be found by 4 of 5 such test sets"
        elif not all(one.counts_seeds for one in found):
            more += ". Said of these trained models: another seed moves scores, too"
        lines.append(f"**{word.capitalize()}**: {'; '.join(one.show() for one in found[:MOST_NAMED])}{more}")
    others = {
        SAME: [one.name for one in paired if one.word == SAME],
        "new": [name for name in new.predictions if name not in old.predictions and old.predictions],
        "no longer evaluated": [name for name in old.predictions if name not in new.predictions],
    }
    if named := [f"{what}: {listed(names)}" for what, names in others.items() if names]:
        lines.append(f"**Others**: {'; '.join(named)}")
    without = [name for name, side in (("the base", old), ("this branch", new)) if not side.predictions]
    if without:
        lines.append(f"**No paired test**: no `metrics/predictions/` on {' or '.join(without)}; `make repro` writes it")
    return lines


def rows_line(old: Side, new: Side, rows: SharedRows | None) -> str:
    """Rows of the splits and labels that were changed, and which test rows are others."""
    splits = {split: ("split", "rows", split) for split in ("train", "validation", "test")}
    labels = {"labels corrected": ("correct", "relabelled"), "changed by the detector": ("label_errors", "relabelled")}
    parts = []
    for what, key in (splits | labels).items():
        before, after = (side.metrics.get(key, MISSING) for side in (old, new))
        if before != after or (what in splits and after is not MISSING):
            parts.append(f"{what} {arrow(before, after)}")
    if rows is not None:
        others = {"added": rows.added, "removed": rows.removed, "with another label": list(rows.relabelled)}
        named = [f"{len(names):,} {what} ({listed(names, 2)})" for what, names in others.items() if names]
        named += [f"{count:,} {change}" for change, count in Counter(rows.relabelled.values()).most_common(2)]
        parts.append(f"**test rows {', '.join(named)}**" if named else "the same test rows with the same labels")
    return "**Rows**: " + ("; ".join(parts) or "no counts")


def notes(old: Side, new: Side, base: str, stale: dict[str, str]) -> str:
    """What the reader has to know about the figures themselves."""
    left_out = list(dict.fromkeys([*new.left_out, *old.left_out]))
    surely = [name for name, path in stale.items() if path[-1] != "?"]
    perhaps = [name for name in stale if name not in surely]
    found = {
        f"**The metrics are not of this code and data**: {listed(surely)} did not run after an input changed. Run"
        " `make repro`, and commit `metrics/` and `dvc.lock`": surely,
        f"Perhaps of older data: {listed(perhaps)}; where `data/` lies, `dvc status` tells": perhaps,
        f"Left out, as unreadable or not run on the data and params of its side: {listed(left_out)}": left_out,
        f"`{base}` is of other data: without a source in common, none of its results is compared": old.is_other_data,
        f"`{base}` has no metrics: every figure counts as new": not old.metrics and not old.is_other_data,
        "There is no `dvc.lock` here: run `make repro` and commit it": new.lock is None,
    }
    return ". ".join(note for note, is_so in found.items() if is_so)


def fit(first: str, tables: list[str], base: str) -> str:
    """The report with the tables that fit, and a line that says how many did not."""
    end = "{} longer tables do not fit in a comment: `git diff {} -- metrics params.yaml dvc.lock`"
    text, left_out = first, 0
    for table in filter(None, tables):
        fits = len(text) + len(table) + len(end) + len(base) + 9 <= MAX_CHARACTERS
        text, left_out = (f"{text}\n\n{table}", left_out) if fits else (text, left_out + 1)
    return text + (f"\n\n{end.format(left_out, base)}" if left_out else "") + "\n"


def report(old: Side, new: Side, base: str, commit: str, gate: GateParams | None) -> str:
    """The whole report as Markdown."""
    rows, paired = compare_sides(old.predictions, new.predictions, seed_deviations(new.params))
    stale, texts = stale_stages(new.lock, old.lock, new.params, Path()), sections.read_texts()
    cost, _ = training_cost(old.metrics, new.metrics) or ("not measured on both sides", 0)
    lines = [*score_lines(old, new, paired), f"**Cost** of training: {cost}", rows_line(old, new, rows)]
    lines.append(notes(old, new, base, stale))
    if gate is not None:
        rules = apply_rules(gate, old, new, rows, paired, stale)
        outcome = outcome_of(rules)
        why = [f"{rule.name}, allowed is {rule.allowed}" for rule in rules if rule.outcome == outcome != PASS]
        more = f"; and {len(why) - 1} more by `make gate`" if len(why) > 1 else ""
        lines.insert(0, f"**Gate: {outcome}**, {ADVICE[outcome]}{f' ({why[0]}{more})' if why else ''}")
    tables = [
        sections.scores(paired),
        sections.flips(paired, texts),
        sections.test_rows(rows, texts),
        sections.stale(stale),
        sections.params(old.params, new.params),
        sections.rows_by_rule(old.metrics, new.metrics),
        *sections.metrics(old.metrics, new.metrics, is_comparable=rows is not None and not rows.differ),
    ]
    first = [MARKER, f"### {title(rows, paired, base)}", "\n".join(f"- {line}" for line in lines if line)]
    compared = f"Against `{base}` ({commit[:10]}); docs/pull_requests.md says how to read this."
    return fit("\n\n".join([*first, compared]), tables, base)


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
