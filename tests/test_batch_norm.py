"""BatchNorm's statistics: plain averages; what they cannot be estimated from is said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tatl.data.case import Size
from tatl.training.batch_norm import calibrate
from tatl.training.trainer import fit
from toy import make_store, toy_run


@pytest.mark.parametrize("recipe", [{"batch": 1}, {"calibration": 1}, {"batch": 1, "calibration": 0}])
def test_one_image_of_one_coarse_pixel_has_no_variance(tmp_path: Path, recipe: dict[str, int]) -> None:
    store = make_store(tmp_path / "tiny", Size(24, 32))
    run = toy_run(store, **recipe)
    with pytest.raises(ValueError, match=r"^one image this small .* give --batch and --calibration 2 or more"):
        fit(run, tmp_path, store, device="cpu", progress=False)
    assert not (run.folder(tmp_path) / "history.csv").exists()


def test_statistics_are_plain_averages_and_the_momentum_comes_back() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(12, 3, 4, 5, generator=draw) * 3 + 1
    own, plain = (nn.BatchNorm2d(3, momentum=momentum) for momentum in (0.3, None))
    batches = np.split(np.arange(12), 4)
    for _ in range(2):  # what went before does not matter
        calibrate(own, lambda indices: own(images[indices]), batches)
        assert own.momentum == 0.3
    for batch in batches:
        plain(images[batch])
    given, expected = own.state_dict(), plain.state_dict()
    assert torch.equal(given["running_mean"], expected["running_mean"])
    assert torch.equal(given["running_var"], expected["running_var"])
    means = torch.stack([images[batch].mean((0, 2, 3)) for batch in batches])
    torch.testing.assert_close(given["running_mean"], means.mean(0))
