"""The figures of docs/augmentation.md are those of the metrics; `python -m tests.test_augmentation_figures` writes."""

from pathlib import Path
from typing import Any

import pytest

from assay.core.outputs import read_json, write_text
from tests.test_label_error_figures import between, table

REPOSITORY = Path(__file__).parents[1]
DOC = REPOSITORY / "docs/augmentation.md"


def interval(of: dict[str, Any], name: str, sign: str = "") -> str:
    low, high = (f"{of[f'{name}_ci95_{end}']:{sign}.3f}" for end in ("low", "high"))
    return f"{of[name]:{sign}.3f} [{low}, {high}]"


def ablation() -> str:
    figures = read_json(REPOSITORY / "metrics/augment_ablation.json")
    rows = []
    for share, of_share in figures["full"].items():
        for arm, of in of_share.items():
            probe = figures["probe"][share][arm]
            cells = [interval(model, "effect", "+") if "effect" in model else "" for model in (probe, of)]
            rows.append(
                [f"{float(share):.0%}", f"`{arm}`", f"{of['rows']:,}", f"{probe['macro_f1']:.3f}", cells[0],
                 f"{of['macro_f1']:.3f}", cells[1]]
            )  # fmt: skip
    header = ["train rows", "recipe", "rows with copies", "probe", "effect on it", "full fine-tuning", "effect on it"]
    return f"{table(header, rows)}\n\n{figures['seeds']} seeds, {figures['rows_test']:,} test rows."


def labels() -> str:
    figures = read_json(REPOSITORY / "metrics/optional/augment_quality.json")["per_recipe"]
    made = read_json(REPOSITORY / "metrics/augment.json")["per_recipe"]
    rows = [
        [
            f"`{name}`", f"{made[name]['made']:,}", f"{made[name]['identical_to_parent']:,}",
            f"{made[name]['meaning_changed']:,}", f"{made[name]['label_lost']:,}", f"{made[name]['let_in']:,}",
            interval(of, "label_kept"), interval(of, "label_right"),
        ]
        for name, of in figures.items()
    ]  # fmt: skip
    header = ["recipe", "made", "nothing to alter", "meaning changed", "label lost", "let in"]
    return table([*header, "gets its parent's label", "the right one, where the parent does"], rows)


def robustness() -> str:
    rows = []
    figures = {path.stem: read_json(path) for path in sorted((REPOSITORY / "metrics/robustness").glob("*.json"))}
    for name, of in figures.items():
        if "left_out" in of:
            continue
        changes, attacks = of["perturbations"], of["attacks"]
        rows.append(
            [
                f"`{name}`",
                *(interval(changes[recipe], "accuracy_difference", "+") for recipe in changes),
                *(f"{attack['succeeded']} of {attack['attacked']}" for attack in attacks.values()),
            ]
        )
    recipes = [f"accuracy under `{recipe}`" for recipe in next(iter(figures.values()))["perturbations"]]
    attacks = [f"`{attack}` succeeds" for attack in next(iter(figures.values()))["attacks"]]
    return table(["approach", *recipes, *attacks], rows)


PARTS = {"ablation": ablation, "labels": labels, "robustness": robustness}


@pytest.mark.parametrize("name", PARTS)
def test_the_figures_are_those_of_the_metrics(name: str) -> None:
    assert between(name, DOC.read_text(encoding="utf-8")) == PARTS[name]()


def test_recipes_that_are_on_keep_their_labels() -> None:
    for of in read_json(REPOSITORY / "metrics/optional/augment_quality.json")["per_recipe"].values():
        assert of["label_kept"] >= 0.9


if __name__ == "__main__":
    for name, figures in PARTS.items():
        before, _, rest = DOC.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        write_text(DOC, f"{before}<!-- {name} -->\n{figures()}\n{end}{after}")
