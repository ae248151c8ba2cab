"""The figures of docs/generation.md are those of docs/results_full.json; `python -m tests.test_generation_figures`."""

from pathlib import Path
from typing import Any

import pytest

from assay.core.outputs import read_json
from tests import doc_figures
from tests.doc_figures import FULL, REPOSITORY, between, read_full, table, write_parts

pytestmark = pytest.mark.figures

DOC = REPOSITORY / "docs/generation.md"


def interval(of: dict[str, Any], name: str, form: str = ".3f") -> str:
    """A score with its interval, `–` where there is none."""
    return "–" if of.get(name) is None else doc_figures.interval(of, name, form).replace("-", "−")


def sft() -> str:
    rows = []
    for file in filter(lambda name: name.startswith("sft/"), read_json(FULL)["metrics"]):
        of, name = read_full(file), Path(file).stem
        if "left_out" in of:
            rows.append([f"`{name}`", of["left_out"], "", "", "", "", ""])
            continue
        loss = f"{of['validation_loss_before']:.3f} → {of['validation_loss']:.3f}"
        trained = f"{of['trainable_parameters']:,}"
        cost = read_full(f"cost/{file}")
        costs = [f"{cost[key]:,.0f}" for key in ("train_seconds", "tokens_per_second", "peak_memory_mib")]
        rows.append([f"`{name}`", loss, trained, *costs, f"{of['artefact_mib']:,.1f}"])
    header = ["approach", "validation loss, nats a token", "parameters trained", "seconds", "tokens/s", "peak, MiB"]
    return table([*header, "MiB on disk"], rows)


def reward() -> str:
    of = read_full("optional/reward.json")
    parts = {"all": of} | {f"`{name}`": part for name, part in of["by_source"].items()}
    parts |= {f"… `{name}`": part for name, part in of["by_kind"].items()}
    rows = [[name, f"{part['pairs']}", interval(part, "accuracy", ".1%")] for name, part in parts.items()]
    length = of["length_bias"]
    note = (
        f"Expected calibration error {of['expected_calibration_error']:.3f}. The longer answer wins "
        f"{length['longer_wins']:.0%} of the pairs of unequal length and should win {length['longer_should_win']:.0%}; "
        f"right are {length['accuracy_chosen_longer']:.0%} where the better answer is the longer one, "
        f"{length['accuracy_chosen_shorter']:.0%} where it is the shorter."
    )
    return f"{table(['pairs', 'number', 'right [95% interval]'], rows)}\n\n{note}"


def models() -> str:
    summary = read_full("optional/generation_summary.json")
    rows = [
        [
            f"`{name}`",
            interval(of["answer"], "perplexity", ".2f"),
            interval(of["answer"], "chrf"),
            interval(of["answer"], "uses_context"),
            interval(of["unanswerable"], "refused"),
            interval(of["answer"], "refused"),
            interval(of["label"], "exact_match"),
            f"{of['answer']['tokens']:.0f}",
            interval(of["general_text"], "perplexity", ".1f"),
        ]
        for name, of in summary["models"].items()
    ]
    rows += [[f"`{name}`", reason, *[""] * 7] for name, reason in summary["left_out"].items()]
    header = ["model", "perplexity", "chrF", "uses passages", "refuses rightly", "refuses wrongly", "label right"]
    return table([*header, "tokens", "general perplexity"], rows)


def pairs() -> str:
    rows = []
    for name, of in read_full("optional/generation_summary.json")["pairs"].items():
        one, against = name.split("_against_")
        answer = of["answer"]
        rows.append(
            [
                f"`{one}` against `{against}`",
                interval(answer, "perplexity_ratio"),
                interval(answer, "chrf_difference"),
                interval(of["label"], "exact_match_difference"),
                interval(answer, "reward_difference"),
                interval(answer, "reward_win_rate"),
            ]
        )
    header = ["pair", "ratio of perplexities", "chrF", "label right", "mean reward", "wins by the reward model"]
    return table(header, rows)


def policies() -> str:
    rows = []
    for name in ("rloo", "ppo"):
        of = read_full(f"optional/{name}.json") | read_full(f"cost/{name}.json")
        rows.append(
            [
                f"`{name}`",
                f"{of['reward_before']:z.2f} → {of['reward_after']:z.2f}".replace("-", "−"),
                interval(of, "reward_difference", ".2f"),
                interval(of, "kl_to_reference", ".2f"),
                f"{of['answer_tokens_before']:.0f} → {of['answer_tokens_after']:.0f}",
                f"{of['ended_share_before']:.0%} → {of['ended_share_after']:.0%}",
                f"{of['train_seconds']:,.0f}",
            ]
        )
    header = ["stage", "mean reward", "difference", "divergence, nats an answer", "tokens", "answers that end"]
    return table([*header, "seconds"], rows)


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
            add(what, interval(of, "perplexity_ratio"), of["perplexity_ratio_ci95_high"] < 1)
    lora, dpo = answers["sft-lora_against_sft-full"], answers["dpo_against_sft-lora"]
    what = "LoRA's perplexity is within 5% of full fine-tuning's (ratio)"
    add(what, interval(lora, "perplexity_ratio"), lora["perplexity_ratio"] <= 1.05)
    what = "the reward model is right on 80% of held-out pairs"
    add(what, interval(judge, "accuracy", ".1%"), judge["accuracy"] >= 0.8)
    for name, of in judge["by_source"].items():
        add(f"… and on 65% of those of `{name}`", interval(of, "accuracy", ".1%"), of["accuracy"] >= 0.65)
    what = "DPO wins over its start by the reward model (rate above 0.5)"
    add(what, interval(dpo, "reward_win_rate"), dpo["reward_win_rate"] > 0.5)
    divergence = ppo["kl_to_reference"]
    what = f"PPO raises the mean reward at a divergence below {ppo['target_kl']:g} nats"
    found = f"{interval(ppo, 'reward_difference', '+.2f')} at {divergence:.2f}"
    add(what, found, ppo["reward_difference"] > 0 and divergence < ppo["target_kl"])
    return table(["what should hold on the default data", "measured [95% interval]", "holds"], rows)


PARTS = {"targets": targets, "sft": sft, "reward": reward, "models": models, "pairs": pairs, "policies": policies}


@pytest.mark.parametrize("name", PARTS)
def test_the_figures_are_those_of_the_preset_full(name: str) -> None:
    assert between(name, DOC) == PARTS[name]()


if __name__ == "__main__":
    write_parts(DOC, PARTS)
