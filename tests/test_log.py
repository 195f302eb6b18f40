"""Losses in another form than history.csv: through Lightning's writers, without a trace in what is learnt."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from lightning.pytorch.loggers import CSVLogger

from tatl.__main__ import main
from tatl.data.store import Store
from tatl.training import trainer, writers
from tatl.training.trainer import fit
from toy import toy_run


def test_a_writer_gets_every_loss_of_the_history_and_changes_nothing(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run(toy_store, epochs=2)
    plain = fit(run, tmp_path / "plain", toy_store, device="cpu", progress=False)
    monkeypatch.setattr(trainer, "writer", lambda log, folder, step: CSVLogger(folder, "told", ""))
    told = fit(run, tmp_path / "told", toy_store, device="cpu", progress=False, log="tensorboard")
    assert told.relative_to(tmp_path / "told") == plain.relative_to(tmp_path / "plain")
    for name in ("weights.safetensors", "history.csv", "scores.csv", "run.json"):
        assert (plain / name).read_bytes() == (told / name).read_bytes()
    history, written = pd.read_csv(plain / "history.csv"), pd.read_csv(told / "told/metrics.csv")
    for split, rows in history.groupby("split"):
        losses = written.set_index("step")[f"loss/{split}"].dropna()
        assert losses.to_numpy() == pytest.approx(rows["loss"].to_numpy())
        assert losses.index.tolist() == rows["step"].tolist()


def test_without_a_writer_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writers, "_WRITERS", ("no_such_writer",))
    assert main(["train", "--variant", "stage3", "--preset", "smoke", "--log", "tensorboard"]) == 2
    assert "pip install 'tatl[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_reads_the_losses(toy_store: Store, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = fit(toy_run(toy_store), tmp_path, toy_store, device="cpu", progress=False, log="tensorboard")
    history, found = pd.read_csv(folder / "history.csv"), EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    for split, rows in history.groupby("split"):
        told = found.Scalars(f"loss/{split}")
        assert [each.value for each in told] == pytest.approx(rows["loss"].tolist(), rel=1e-6)
        assert [each.step for each in told] == rows["step"].tolist()
