"""May this branch be merged, by the figures alone? Exit status 0: it may; 1: blocked; 2: they cannot tell.

`python -m tools.changes.gate BASE`, with the section `gate` of `params.yaml`, prints a line for each rule: what was
seen, and what is allowed. The rules are in docs/pull_requests.md. `make gate` ends with 2 for both 1 and 2, as every
target of make that fails.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from pydantic import Field

from assay.core.errors import InputError, run_stage
from assay.core.params import Params, load_params
from assay.report.comparison import SCORE_NAMES
from assay.report.numbers import number, score
from assay.statistics.verdicts import DETECTABLE, LEVEL
from tools.changes.paired import SAME, Paired, SharedRows, compare_sides, seed_deviations
from tools.changes.revisions import commit_of
from tools.changes.sections import arrow, listed
from tools.changes.sides import Flat, Side, read_sides
from tools.changes.staleness import stale_stages
from tools.command_line import command_line

PASS, BLOCKED, INCONCLUSIVE = "pass", "blocked", "inconclusive"
STATUS = {PASS: 0, BLOCKED: 1, INCONCLUSIVE: 2}


class GateParams(Params):
    """Section `gate`."""

    approach: str | None
    largest_drop: float = Field(gt=0, le=1)
    power: float = Field(ge=0.5, lt=1)
    seed_deviation: float = Field(ge=0, le=1)
    smallest_share_in_common: float = Field(ge=0, le=1)
    largest_share_removed: float = Field(ge=0, le=1)
    largest_share_relabelled: float = Field(ge=0, le=1)
    largest_cost_ratio: float = Field(ge=1)


@dataclass(frozen=True)
class Rule:
    """What one rule says: `pass`, `blocked` or `inconclusive`, for what was seen beside what is allowed."""

    name: str
    outcome: str
    seen: str
    allowed: str


def judge_drop(one: Paired, params: GateParams) -> tuple[str, str]:
    """The outcome for one score, and what was seen. See the table in docs/pull_requests.md."""
    low, high, detectable = one.difference.low, one.difference.high, one.difference.minimum_detectable
    seen = f"{one.show()}, {one.word}"
    if one.word == SAME or (low is not None and low > -params.largest_drop):
        return PASS, seen
    if one.word == "worse" or (high is not None and high < -params.largest_drop):
        return BLOCKED, seen
    if detectable is None:
        return INCONCLUSIVE, seen
    normal = NormalDist()
    detectable *= (normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(params.power)) / DETECTABLE
    return PASS if detectable <= params.largest_drop else INCONCLUSIVE, f"{seen}; finds a drop of {score(detectable)}"


def score_rules(params: GateParams, old: Side, paired: list[Paired]) -> list[Rule]:
    """No score drops, and the guarded approach (without a name, the base's best on validation) is shown to keep its."""
    judged = {(one.name, one.score): judge_drop(one, params) for one in paired}
    dropped = [seen for outcome, seen in judged.values() if outcome == BLOCKED]
    names = [name for name in old.predictions if "/" not in name]
    validation = {name: old.metrics.get((f"finetune/{name}", "validation_macro_f1"), 0) for name in names}
    guarded = params.approach or max(names, key=lambda name: validation[name], default="an approach")
    none = (INCONCLUSIVE, "no predictions for the same rows on both sides")
    outcome, seen = next((judged[guarded, kind] for kind in SCORE_NAMES.values() if (guarded, kind) in judged), none)
    allowed = f"a drop of less than {score(params.largest_drop)}"
    would_find = f"{allowed}, which {params.power:.0%} of test sets would find"
    return [
        Rule("scores that drop", BLOCKED if dropped else PASS, "; ".join(dropped) or "none", allowed),
        Rule(f"score of {guarded}", outcome, seen, would_find),
    ]


def data_rules(params: GateParams, rows: SharedRows, old: Flat, new: Flat) -> list[Rule]:
    """How much of the data is another: test rows one by one, train rows by the counts that both sides have."""

    def step(*key: str) -> float:
        return float(new[key] - old[key]) if key in old and key in new else 0.0

    train, test = max(1, old.get(("label_errors", "rows_out"), 0)), max(1, rows.old)
    common, enough = len(rows.common) / test, params.smallest_share_in_common
    seen = f"{len(rows.common):,} of {rows.old:,}"
    rules = [Rule("test rows in common", PASS if common >= enough else INCONCLUSIVE, seen, f"at least {enough:.1%}")]
    relabelled = step("label_errors", "relabelled") + step("correct", "relabelled")
    for name, of_test, of_train, largest in (
        ("rows removed", rows.removed, -step("label_errors", "rows_out"), params.largest_share_removed),
        ("labels changed", rows.relabelled, relabelled, params.largest_share_relabelled),
    ):
        shares = len(of_test) / test, max(0.0, of_train) / train
        outcome = BLOCKED if max(shares) > largest else PASS
        rules.append(Rule(name, outcome, "{:.1%} of test, {:.1%} of train".format(*shares), f"at most {largest:.1%}"))
    return rules


def training_cost(old: Flat, new: Flat) -> tuple[str, float] | None:
    """What training takes, of what both sides have measured, and how many times as much; None: nothing."""

    def both(measure: str) -> list[list[float]]:
        keys = [key for key in new if key[0].startswith("cost/") and key[1:] == (measure,)]
        return [[float(side[key]) for key in keys if new[key] and old.get(key)] for side in (old, new)]

    unit = "train_cpu_seconds" if both("train_cpu_seconds")[0] else "train_seconds"
    before, after = map(sum, both(unit))
    if not before:
        return None
    memory = arrow(*(round(max(of_side, default=0)) for of_side in both("peak_memory_mib")))
    times = "the same" if after == before else f"{after / before:.2f} times"
    seconds = f"{arrow(round(before), round(after))} {unit.replace('_', ' ').replace('cpu', 'CPU')}"
    return f"{seconds} ({times}), at most {memory} MiB", after / before


def apply_rules(
    params: GateParams, old: Side, new: Side, rows: SharedRows | None, paired: list[Paired], stale: dict[str, str]
) -> list[Rule]:
    """Every rule, in the order of docs/pull_requests.md."""
    surely = [name for name, path in stale.items() if path[-1] != "?"]
    rules = [Rule("stages out of date", INCONCLUSIVE if surely else PASS, listed(surely) or "none", "none")]
    rules += score_rules(params, old, paired)
    if rows is not None:
        rules += data_rules(params, rows, old.metrics, new.metrics)
    if cost := training_cost(old.metrics, new.metrics):
        allowed = f"at most {number(params.largest_cost_ratio)} times as much"
        outcome = BLOCKED if cost[1] > params.largest_cost_ratio else PASS
        rules.append(Rule("cost of training", outcome, cost[0], allowed))
    return rules


def outcome_of(rules: list[Rule]) -> str:
    """Blocked by one rule that is broken, else inconclusive by one that cannot tell, else passed."""
    return max((rule.outcome for rule in rules), key=(PASS, INCONCLUSIVE, BLOCKED).index)


def main() -> None:
    """Print what each rule says, and end with the exit status of all."""
    parser = command_line("python -m tools.changes.gate", __doc__)
    parser.add_argument("base", help="branch, tag or commit to compare the working tree with")
    base = parser.parse_args().base
    try:
        params = load_params("gate", GateParams)
        old, new = read_sides(commit_of(base))
    except InputError as error:
        # Exit status 1 is for what was measured.
        print(f"error: {error}", file=sys.stderr)
        sys.exit(STATUS[INCONCLUSIVE])
    stale = stale_stages(new.lock, old.lock, new.params, Path())
    compared = compare_sides(old.predictions, new.predictions, seed_deviations(new.params))
    rules = apply_rules(params, old, new, *compared, stale)
    for rule in rules:
        print(f"{rule.outcome:12}  {rule.name}: {rule.seen}; allowed: {rule.allowed}")
    print(f"gate: {outcome_of(rules)}, against {base}")
    sys.exit(STATUS[outcome_of(rules)])


if __name__ == "__main__":
    run_stage(main)
