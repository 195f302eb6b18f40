"""BatchNorm's statistics: what they cannot be estimated from is said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tatl.data.case import Size
from tatl.fit import fit
from toy import make_store, toy_run


@pytest.mark.parametrize("recipe", [{"batch": 1}, {"calibration": 1}, {"batch": 1, "calibration": 0}])
def test_one_image_of_one_coarse_pixel_has_no_variance(tmp_path: Path, recipe: dict[str, int]) -> None:
    store = make_store(tmp_path / "tiny", Size(24, 32))
    run = toy_run(store, **recipe)
    with pytest.raises(ValueError, match=r"^one image this small .* give --batch and --calibration 2 or more"):
        fit(run, tmp_path, store, device="cpu", progress=False)
    assert not (run.folder(tmp_path) / "history.csv").exists()
