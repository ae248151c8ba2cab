"""The figures of docs/ are those of the files that they come from; `python -m tests.test_doc_figures` writes them.

They stand between markers. Most are of the preset `full`, as docs/results_full.json has them.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from assay.core.outputs import read_json, write_text
from assay.statistics.metrics_dict import leaves
from tools.changes.readme_results import markdown_table

pytestmark = pytest.mark.figures

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"


def read_full(name: str) -> Any:
    """A file of metrics as the preset `full` made it."""
    return read_json(DOCS / "results_full.json")["metrics"][name]


def full_below(folder: str) -> dict[str, Any]:
    """The files of a folder of metrics as the preset `full` made them, by name."""
    files = read_json(DOCS / "results_full.json")["metrics"]
    return {Path(file).stem: of for file, of in files.items() if Path(file).parent == Path(folder)}


def interval(of: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """A score of a metrics file with its interval."""
    low, high = (format(of[f"{name}_ci95_{end}"], form) for end in ("low", "high"))
    return f"{of[name]:{form}} [{low}, {high}]"


def shown(of: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """A score with its interval, minus signs as they are printed; `–` where there is none."""
    return "–" if of.get(name) is None else interval(of, name, form).replace("-", "−")


def labels_of_examples() -> str:
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
    return markdown_table([*header, "gets its parent's label", "the right one, where the parent does"], rows)


def robustness() -> str:
    rows = []
    figures = full_below("robustness")
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
    return markdown_table(["approach", *recipes, *attacks], rows)


def sft() -> str:
    rows = []
    for name, of in full_below("sft").items():
        if "left_out" in of:
            rows.append([f"`{name}`", of["left_out"], "", "", "", "", ""])
            continue
        loss = f"{of['validation_loss_before']:.3f} → {of['validation_loss']:.3f}"
        trained = f"{of['trainable_parameters']:,}"
        cost = read_full(f"cost/sft/{name}.json")
        costs = [f"{cost[key]:,.0f}" for key in ("train_seconds", "tokens_per_second", "peak_memory_mib")]
        rows.append([f"`{name}`", loss, trained, *costs, f"{of['artefact_mib']:,.1f}"])
    header = ["approach", "validation loss, nats a token", "parameters trained", "seconds", "tokens/s", "peak, MiB"]
    return markdown_table([*header, "MiB on disk"], rows)


def reward_model() -> str:
    of = read_full("optional/reward.json")
    parts = {"all": of} | {f"`{name}`": part for name, part in of["by_source"].items()}
    parts |= {f"… `{name}`": part for name, part in of["by_kind"].items()}
    rows = [[name, f"{part['pairs']}", shown(part, "accuracy", ".1%")] for name, part in parts.items()]
    length = of["length_bias"]
    note = (
        f"Expected calibration error {of['expected_calibration_error']:.3f}. The longer answer wins "
        f"{length['longer_wins']:.0%} of the pairs of unequal length and should win {length['longer_should_win']:.0%}; "
        f"right are {length['accuracy_chosen_longer']:.0%} where the better answer is the longer one, "
        f"{length['accuracy_chosen_shorter']:.0%} where it is the shorter."
    )
    return f"{markdown_table(['pairs', 'number', 'right [95% interval]'], rows)}\n\n{note}"


def language_models() -> str:
    summary = read_full("optional/generation_summary.json")
    rows = [
        [
            f"`{name}`",
            shown(of["answer"], "perplexity", ".2f"),
            shown(of["answer"], "chrf"),
            shown(of["answer"], "uses_context"),
            shown(of["unanswerable"], "refused"),
            shown(of["answer"], "refused"),
            shown(of["label"], "exact_match"),
            f"{of['answer']['tokens']:.0f}",
            shown(of["general_text"], "perplexity", ".1f"),
        ]
        for name, of in summary["models"].items()
    ]
    rows += [[f"`{name}`", reason, *[""] * 7] for name, reason in summary["left_out"].items()]
    header = ["model", "perplexity", "chrF", "uses passages", "refuses rightly", "refuses wrongly", "label right"]
    return markdown_table([*header, "tokens", "general perplexity"], rows)


def pairs_of_models() -> str:
    rows = []
    for name, of in read_full("optional/generation_summary.json")["pairs"].items():
        one, against = name.split("_against_")
        answer = of["answer"]
        rows.append(
            [
                f"`{one}` against `{against}`",
                shown(answer, "perplexity_ratio"),
                shown(answer, "chrf_difference"),
                shown(of["label"], "exact_match_difference"),
                shown(answer, "reward_difference"),
                shown(answer, "reward_win_rate"),
            ]
        )
    header = ["pair", "ratio of perplexities", "chrF", "label right", "mean reward", "wins by the reward model"]
    return markdown_table(header, rows)


def policies() -> str:
    rows = []
    for name in ("rloo", "ppo"):
        of = read_full(f"optional/{name}.json") | read_full(f"cost/{name}.json")
        rows.append(
            [
                f"`{name}`",
                f"{of['reward_before']:z.2f} → {of['reward_after']:z.2f}".replace("-", "−"),
                shown(of, "reward_difference", ".2f"),
                shown(of, "kl_to_reference", ".2f"),
                f"{of['answer_tokens_before']:.0f} → {of['answer_tokens_after']:.0f}",
                f"{of['ended_share_before']:.0%} → {of['ended_share_after']:.0%}",
                f"{of['train_seconds']:,.0f}",
            ]
        )
    header = ["stage", "mean reward", "difference", "divergence, nats an answer", "tokens", "answers that end"]
    return markdown_table([*header, "seconds"], rows)


def targets() -> str:
    """What training should bring on the default data, and whether it did."""
    pairs = read_full("optional/generation_summary.json")["pairs"]
    judge, ppo = read_full("optional/reward.json"), read_full("optional/ppo.json")
    answers = {name: of["answer"] for name, of in pairs.items()}

    rows: list[list[str]] = []

    def add(what: str, found: str, holds: bool) -> None:
        rows.append([what, found, "yes" if holds else "**no**"])

    for name, of in answers.items():
        if name.endswith("_against_base"):
            what = f"`{name.removesuffix('_against_base')}` lowers the base's answer perplexity (ratio below 1)"
            add(what, shown(of, "perplexity_ratio"), of["perplexity_ratio_ci95_high"] < 1)
    lora, dpo = answers["sft-lora_against_sft-full"], answers["dpo_against_sft-lora"]
    what = "LoRA's perplexity is within 5% of full fine-tuning's (ratio)"
    add(what, shown(lora, "perplexity_ratio"), lora["perplexity_ratio"] <= 1.05)
    what = "the reward model is right on 80% of held-out pairs"
    add(what, shown(judge, "accuracy", ".1%"), judge["accuracy"] >= 0.8)
    for name, of in judge["by_source"].items():
        add(f"… and on 65% of those of `{name}`", shown(of, "accuracy", ".1%"), of["accuracy"] >= 0.65)
    what = "DPO wins over its start by the reward model (rate above 0.5)"
    add(what, shown(dpo, "reward_win_rate"), dpo["reward_win_rate"] > 0.5)
    divergence = ppo["kl_to_reference"]
    what = f"PPO raises the mean reward at a divergence below {ppo['target_kl']:g} nats"
    found = f"{shown(ppo, 'reward_difference', '+.2f')} at {divergence:.2f}"
    add(what, found, ppo["reward_difference"] > 0 and divergence < ppo["target_kl"])
    return markdown_table(["what should hold on the default data", "measured [95% interval]", "holds"], rows)


def human_noise() -> str:
    grade = read_full("label_errors.json")["grade"]
    keys = ("average_precision", "auroc", "precision_at_5pct", "recall_at_10pct")
    rows = [
        [f"`{name}`", *(f"{values[key]:.3f}" for key in keys)]
        for name, values in grade.items()
        if isinstance(values, dict) and name != "per_source"
    ]
    rows += [
        [f"`label_quality`, {name}", *(f"{values[key]:.3f}" for key in keys)]
        for name, values in grade["per_source"].items()
    ]
    header = ["score", "average precision", "AUROC", "precision of the 5% trusted least", "recall of the 10%"]
    found = f"Noise: {grade['noise_rate']:.1%} of {grade['rows']:,} rows. Flagged: precision {grade['precision']:.3f},"
    return f"{markdown_table(header, rows)}\n\n{found} recall {grade['recall']:.3f}."


def injected_noise() -> str:
    metrics = read_full("optional/injected_noise.json")
    kinds = {kind: shares for kind, shares in metrics.items() if isinstance(shares, dict)}
    shares = list(next(iter(kinds.values())))
    rows = [
        [
            kind.replace("_", " "),
            *(f"{of[share]['average_precision']:.3f} / {of[share]['auroc']:.3f}" for share in shares),
        ]
        for kind, of in kinds.items()
    ]
    return markdown_table(["noise", *(share.replace("pct", "%") for share in shares)], rows)


def detector_on_banking77() -> str:
    figures = read_json(DOCS / "label_errors_banking77.json")
    rows = [
        [
            kind.replace("_", ", "),
            f"{values['label_quality']['average_precision']:.3f} / {values['label_quality']['auroc']:.3f}",
            f"{values['precision']:.3f} / {values['recall']:.3f}",
            f"{values['accuracy_noisy']:.4f}",
            f"{values['accuracy_after_drop']:.4f}",
            f"{values['accuracy_after_weight']:.4f}",
            f"{values['accuracy_exactly_the_wrong_rows_removed']:.4f}",
        ]
        for kind, values in figures.items()
        if isinstance(values, dict)
    ]
    header = ["noise", "average precision / AUROC", "flagged: precision / recall"]
    probe = ["noisy", "after `drop`", "after `weight`", "exactly the wrong rows removed"]
    return markdown_table([*header, *probe], rows)


def label_effect() -> str:
    metrics = read_full("optional/label_effect.json")
    names = {
        "uncorrected": "labels as given",
        "detector_off": "the action off",
        "detector_on": "the action on",
        "detector_off_minus_uncorrected": "difference by corrections",
        "detector_on_minus_detector_off": "difference by the action",
    }

    rows = [[name, interval(metrics[key], "macro_f1", ".4f")] for key, name in names.items() if key in metrics]
    return markdown_table(["train rows", "macro-F1 [95% interval]"], rows)


def coverage() -> str:
    found = read_json(DOCS / "statistics_coverage.json")["cases"]
    covered = {"macro_f1": "macro-F1", "accuracy": "accuracy", "brier_score": "Brier", "log_loss": "log loss"}
    covered |= {"macro_f1_difference": "difference, macro-F1", "accuracy_difference": "difference, accuracy"}
    tests = {"decided": "bootstrap finds", "mcnemar": "McNemar finds", "holm_family": "Holm finds"}

    def percent(case: str, key: str) -> str:
        # Where one model is better there is something to find.
        is_shown = key in found[case] and not ("gain" in case and key.endswith("found"))
        return f"{100 * found[case][key]:.1f}" if is_shown else "–"

    keys = {f"{key}_covered": name for key, name in covered.items()} | {f"{key}_found": of for key, of in tests.items()}
    return markdown_table(
        ["test sets", *keys.values()], [[case, *(percent(case, key) for key in keys)] for case in found]
    )


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "augmentation": {"labels": labels_of_examples, "robustness": robustness},
    "generation": {"targets": targets, "sft": sft, "reward": reward_model, "models": language_models}
    | {"pairs": pairs_of_models, "policies": policies},
    "label_errors": {"human": human_noise, "injected": injected_noise, "banking77": detector_on_banking77}
    | {"effect": label_effect},
    "statistics": {"coverage": coverage},
}
"""What makes the text of each pair of markers of a document, by their name."""


def split_at_markers(doc: str, name: str) -> tuple[str, str, str]:
    """The text of a document before, between and after the markers of a name."""
    text = (DOCS / f"{doc}.md").read_text(encoding="utf-8")
    found = re.fullmatch(rf"(.*<!-- {name} -->\n)(.*?)(\n<!-- /{name} -->.*)", text, re.DOTALL)
    assert found is not None
    return found[1], found[2], found[3]


@pytest.mark.parametrize(("doc", "name"), [(doc, name) for doc, parts in PARTS.items() for name in parts])
def test_the_figures_are_those_of_their_files(doc: str, name: str) -> None:
    assert split_at_markers(doc, name)[1] == PARTS[doc][name]()


def test_recipes_that_are_on_keep_their_labels() -> None:
    for of in read_full("optional/augment_quality.json")["per_recipe"].values():
        assert of["label_kept"] >= 0.9


def test_no_committed_interval_has_zero_width() -> None:
    files = [file for file in (REPOSITORY / "metrics").rglob("*.json") if "predictions" not in file.parts]
    ends = dict(leaves({str(file): read_json(file) for file in files}))
    lows = [path for path, end in ends.items() if path.endswith("_ci95_low") and end is not None]
    assert [path for path in lows if not ends[path] < ends[path.removesuffix("low") + "high"]] == []


if __name__ == "__main__":
    for doc, parts in PARTS.items():
        for name, make in parts.items():
            before, _, after = split_at_markers(doc, name)
            write_text(DOCS / f"{doc}.md", f"{before}{make()}{after}")
