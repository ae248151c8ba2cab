"""The verdict says what the intervals allow, and no more."""

from typing import Any

from assay.report.summary import BASELINE_METHODS, ranked, verdict


def summary_of(**macro_f1: tuple[float, float, float]) -> dict[str, Any]:
    scores = {
        name: {"rows": 100, "macro_f1": value, "macro_f1_ci95_low": low, "macro_f1_ci95_high": high}
        for name, (value, low, high) in macro_f1.items()
    }
    return {
        "approaches": {name: value for name, value in scores.items() if name not in BASELINE_METHODS},
        "baselines": {name: value for name, value in scores.items() if name in BASELINE_METHODS},
    }


def test_verdict_says_whether_intervals_overlap() -> None:
    close = verdict(summary_of(full=(0.72, 0.70, 0.74), lora=(0.71, 0.69, 0.73), tfidf=(0.6, 0.58, 0.62)))
    assert close.best == "full"
    assert "0.010 above lora, 0.710 [0.690, 0.730]. The two 95% intervals overlap" in close.sentence
    assert "do not overlap" in verdict(summary_of(full=(0.72, 0.70, 0.74), lora=(0.6, 0.58, 0.62))).sentence


def test_verdict_says_when_a_baseline_wins() -> None:
    won = verdict(summary_of(full=(0.5, 0.48, 0.52), tfidf=(0.6, 0.58, 0.62)))
    assert won.best == "tfidf"
    assert won.sentence.startswith("No way of fine-tuning beats the baselines")
    assert verdict(summary_of(tfidf=(0.6, 0.58, 0.62))).sentence.startswith("tfidf has the highest")


def test_verdict_of_one_approach() -> None:
    assert "nothing to compare it with" in verdict(summary_of(full=(0.5, 0.48, 0.52))).sentence


def test_equal_scores_are_ranked_by_name() -> None:
    tied = summary_of(lora=(0.5, 0.4, 0.6), full=(0.5, 0.4, 0.6))
    assert [name for name, _ in ranked(tied)] == ["full", "lora"]
