"""The figures of docs/augmentation.md are of the preset `full`; `python -m tests.test_augmentation_figures` writes."""

from pathlib import Path

import pytest

from assay.core.outputs import read_json
from tests.doc_figures import FULL, METRICS, REPOSITORY, between, interval, read_full, table, write_parts

pytestmark = pytest.mark.figures

DOC = REPOSITORY / "docs/augmentation.md"


def ablation() -> str:
    figures = read_json(METRICS / "augment_ablation.json")
    rows = []
    for share, of_share in figures["full"].items():
        for arm, of in of_share.items():
            probe = figures["probe"][share][arm]
            cells = [interval(model, "effect", "+.3f") if "effect" in model else "" for model in (probe, of)]
            rows.append(
                [f"{float(share):.0%}", f"`{arm}`", f"{of['rows']:,}", f"{probe['macro_f1']:.3f}", cells[0],
                 f"{of['macro_f1']:.3f}", cells[1]]
            )  # fmt: skip
    header = ["train rows", "recipe", "rows with copies", "probe", "effect on it", "full fine-tuning", "effect on it"]
    return f"{table(header, rows)}\n\n{figures['seeds']} seeds, {figures['rows_test']:,} test rows."


def labels() -> str:
    figures = read_full("optional/augment_quality.json")["per_recipe"]
    made = read_full("augment.json")["per_recipe"]
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
    figures = {Path(name).stem: of for name, of in read_json(FULL)["metrics"].items() if name.startswith("robustness/")}
    for name, of in figures.items():
        if "left_out" in of:
            continue
        changes, attacks = of["perturbations"], of["attacks"]
        rows.append(
            [
                f"`{name}`",
                *(interval(changes[recipe], "accuracy_difference", "+.3f") for recipe in changes),
                *(f"{attack['succeeded']} of {attack['attacked']}" for attack in attacks.values()),
            ]
        )
    recipes = [f"accuracy under `{recipe}`" for recipe in next(iter(figures.values()))["perturbations"]]
    attacks = [f"`{attack}` succeeds" for attack in next(iter(figures.values()))["attacks"]]
    return table(["approach", *recipes, *attacks], rows)


PARTS = {"ablation": ablation, "labels": labels, "robustness": robustness}


@pytest.mark.parametrize("name", PARTS)
def test_the_figures_are_those_of_the_metrics(name: str) -> None:
    assert between(name, DOC) == PARTS[name]()


def test_recipes_that_are_on_keep_their_labels() -> None:
    for of in read_full("optional/augment_quality.json")["per_recipe"].values():
        assert of["label_kept"] >= 0.9


if __name__ == "__main__":
    write_parts(DOC, PARTS)
