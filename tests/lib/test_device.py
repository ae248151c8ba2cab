import pytest
import torch

from stages.lib import device
from stages.lib.device import Compute, bfloat16_is_faster, prepare_device


def compute(precision: str) -> Compute:
    return Compute(device="cpu", precision=precision, threads=1, checkpoint_seconds=1.0, backend="processes")  # type: ignore[arg-type]


@pytest.mark.parametrize("is_faster", [True, False])
def test_bfloat16_is_taken_where_it_is_faster_but_never_for_exact_numbers(
    monkeypatch: pytest.MonkeyPatch, is_faster: bool
) -> None:
    monkeypatch.setattr(device, "bfloat16_is_faster", lambda: is_faster)
    expected = torch.bfloat16 if is_faster else torch.float32
    assert prepare_device(compute("auto")).precision == expected
    assert prepare_device(compute("auto"), exact=True).precision == torch.float32
    assert prepare_device(compute("float32")).precision == torch.float32
    assert prepare_device(compute("bfloat16"), exact=True).precision == torch.bfloat16


def test_the_measurement_goes_by_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    answers = []
    for factor in (0.0, 1e9):
        monkeypatch.setattr(device, "CLEARLY_FASTER", factor)
        bfloat16_is_faster.cache_clear()
        answers.append(bfloat16_is_faster())
    bfloat16_is_faster.cache_clear()
    assert answers == [True, False]
