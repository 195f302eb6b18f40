"""Training: resumable to the bit, never repeated, and loud when something is wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tatl.data.batches import Feed
from tatl.data.folds import split
from tatl.data.store import Store
from tatl.machine.version import commit, versions
from tatl.models import build
from tatl.models.starts import seeded
from tatl.run import Run, finished
from tatl.run.legacy import precision_of_log
from tatl.run.textures import texture_run
from tatl.studies.planner import Member
from tatl.studies.results import probabilities as probabilities_in
from tatl.studies.results import scores_of
from tatl.training import tasks
from tatl.training import trainer as fit_module
from tatl.training.device import deterministic, pick_device
from tatl.training.learner import Learner
from tatl.training.metrics import CONFUSION, confusion
from tatl.training.tasks import Segmentation, make_task
from tatl.training.trainer import Busy, fit, taken
from toy import SMALL, make_store, toy_run

CPU: dict[str, Any] = {"device": "cpu", "progress": False}


@pytest.fixture(autouse=True)
def a_checkpoint_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs take seconds."""
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", 0.0)


class Broken(Exception):
    """Stands for whatever stops a process."""


def break_at(
    call: int, monkeypatch: pytest.MonkeyPatch, method: str = "loss", stop: type[BaseException] = Broken
) -> None:
    """The `call`-th call of a task's method raises, all later ones work."""
    original: Callable[..., Any] = getattr(tasks.Segmentation, method)
    calls = iter(range(1, 10_000))

    def once(self: Any, *arguments: Any) -> Any:
        if next(calls) == call:
            raise stop
        return original(self, *arguments)

    monkeypatch.setattr(tasks.Segmentation, method, once)


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in ("log", "lock")}


def steps(run: Run, store: Store) -> int:
    parts = split(store, run.fold, run.n_folds, run.split_seed)
    return -(-len(parts.train) // run.recipe.batch)


@pytest.fixture(scope="module")
def trained(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """Four epochs of SGD without a stop."""
    run = toy_run(toy_store, "disc", epochs=4, lr=0.05)
    return run, fit(run, tmp_path_factory.mktemp("whole"), toy_store, **CPU)


def test_a_finished_run_has_its_files(trained: tuple[Run, Path], toy_store: Store) -> None:
    run, folder = trained
    names = {"run.json", "weights.safetensors", "history.csv", "scores.csv", "probabilities.npz", "log", "lock"}
    assert {p.name for p in folder.iterdir()} - {"lock"} == names - {"lock"}
    assert (folder / "run.json").read_text() == run.dumps()
    history = pd.read_csv(folder / "history.csv")
    assert history.columns.tolist() == ["epoch", "step", "split", "loss", "lr"]
    train = history[history["split"] == "train"]
    assert train["step"].tolist() == list(range(1, 1 + 4 * steps(run, toy_store)))
    validated = history[history["split"] == "validation"]
    assert validated["epoch"].tolist() == [0, 0, 1, 2, 3]  # before the first step, and after every epoch
    assert validated["step"].tolist() == [n * steps(run, toy_store) for n in range(5)]
    assert history["loss"].between(0, 1).all() and (history["lr"] == 0.05).all()
    log = (folder / "log").read_text()
    assert precision_of_log(log) == "32"  # which reads the same line of older runs
    assert f"precision 32; code {commit() or 'of no commit'}; torch {versions()['torch']}, torchvision " in log


def test_scores_are_the_confusion_of_the_saved_probabilities(trained: tuple[Run, Path], toy_store: Store) -> None:
    run, folder = trained
    test = split(toy_store, run.fold, run.n_folds, run.split_seed).test
    scores = pd.read_csv(folder / "scores.csv")
    assert scores.columns.tolist() == ["image", "attribute", "tp", "fp", "fn", "tn"]
    assert scores["image"].tolist() == toy_store.cases["id"].to_numpy()[test].tolist()
    probabilities = probabilities_in(folder)
    assert probabilities.dtype == np.uint8 and probabilities.shape == (len(test), 32, 64)
    expected = confusion(probabilities >= 128, toy_store.mask("disc", test))
    np.testing.assert_allclose(scores[["tp", "fp", "fn", "tn"]], expected, rtol=0, atol=1e-15)


@torch.no_grad()
def test_saved_weights_are_the_network_that_was_scored(trained: tuple[Run, Path], toy_store: Store) -> None:
    run, folder = trained
    model = build(run.shape, run.backbone).eval()
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    test = split(toy_store, run.fold, run.n_folds, run.split_seed).test
    p = torch.sigmoid(model(Feed(toy_store, "disc")(test)[0]))[:, 0].numpy()
    saved = probabilities_in(folder)
    assert np.abs(np.floor(256 * p) - saved).max() <= 1


def test_training_lowers_the_loss(trained: tuple[Run, Path]) -> None:
    history = pd.read_csv(trained[1] / "history.csv")
    losses = history[history["split"] == "train"].groupby("epoch")["loss"].mean()
    assert losses.iloc[-1] < losses.iloc[0]


def test_the_same_run_elsewhere_has_the_same_bytes(
    trained: tuple[Run, Path], toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train 4 epochs = train 2, break in the middle of the third, train on."""
    run, whole = trained
    break_at(2 * steps(run, toy_store) + 2, monkeypatch)
    with pytest.raises(Broken):
        fit(run, tmp_path, toy_store, **CPU)
    assert not finished(run, tmp_path)
    torch.manual_seed(99)  # another process has another global generator
    again = fit(run, tmp_path, toy_store, **CPU)
    assert content(again) == content(whole)


def test_resuming_after_kill_9_is_exact(trained: tuple[Run, Path], toy_store: Store, tmp_path: Path) -> None:
    run, whole = trained
    (tmp_path / "run.json").write_text(run.dumps())
    script = textwrap.dedent(f"""
        import json, os, signal
        from pathlib import Path
        from tatl.training import tasks, trainer as fit_module
        from tatl.data.store import Store
        from tatl.training.trainer import fit
        from tatl.run import Run
        fit_module.CHECKPOINT_SECONDS = 0
        original, calls = tasks.Segmentation.loss, iter(range(1, 1000))
        def loss(self, *arguments):
            if next(calls) == {2 * steps(run, toy_store) + 1}:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *arguments)
        tasks.Segmentation.loss = loss
        run = Run.from_json(json.loads(Path({str(tmp_path / "run.json")!r}).read_text()))
        fit(run, Path({str(tmp_path / "runs")!r}), Store.open({str(toy_store.path)!r}), device="cpu", progress=False)
    """)
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = run.folder(tmp_path / "runs")
    assert (folder / "last.ckpt").is_file() and not (folder / "weights.safetensors").exists()
    assert set(pd.read_csv(folder / "history.csv")["epoch"]) == {0, 1}
    fit(run, tmp_path / "runs", toy_store, **CPU)
    assert content(folder) == content(whole)


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Epochs of 50 seconds, by a clock of their own; the seconds at which a checkpoint was written."""
    now, written = [0.0], list[float]()
    loss, save = tasks.Segmentation.validation_loss, fit_module.L.Trainer.save_checkpoint

    def validated(self: Any, sums: Tensor) -> float:
        now[0] += 50
        return loss(self, sums)

    def saved(self: Any, *given: Any, **options: Any) -> None:
        written.append(now[0])
        save(self, *given, **options)

    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", 120.0)
    monkeypatch.setattr(fit_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(tasks.Segmentation, "validation_loss", validated)
    monkeypatch.setattr(fit_module.L.Trainer, "save_checkpoint", saved)
    return written


def test_checkpoints_are_minutes_apart_and_a_break_between_two_goes_on_from_the_last(
    toy_store: Store, tmp_path: Path, minutes: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run(toy_store, epochs=7)
    whole = fit(run, tmp_path / "a", toy_store, **CPU)
    assert minutes == [150, 300]
    break_at(3 * steps(run, toy_store) + 2, monkeypatch)
    with pytest.raises(Broken):
        fit(run, tmp_path / "b", toy_store, **CPU)
    folder = run.folder(tmp_path / "b")
    kept = torch.load(folder / "last.ckpt", weights_only=True)["tatl"]["history"]
    assert [row["epoch"] for row in kept if row["split"] == "validation"] == [0, 0, 1]
    assert pd.read_csv(folder / "history.csv").equals(pd.DataFrame(kept))
    assert content(fit(run, tmp_path / "b", toy_store, **CPU)) == content(whole)


def test_a_short_run_writes_its_weights_alone(
    trained: tuple[Run, Path], toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", 120.0)
    monkeypatch.setattr(fit_module.L.Trainer, "save_checkpoint", lambda *given, **options: pytest.fail("written"))
    assert content(fit(trained[0], tmp_path, toy_store, **CPU)) == content(trained[1])


def test_weights_that_were_cut_short_are_trained_again(
    trained: tuple[Run, Path], toy_store: Store, tmp_path: Path
) -> None:
    run, whole = trained
    folder = run.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes((whole / "weights.safetensors").read_bytes()[:-1])
    assert not finished(run, tmp_path)
    assert content(fit(run, tmp_path, toy_store, **CPU)) == content(whole)


def test_all_that_belongs_to_a_run_is_on_the_disk_before_its_weights(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(fit_module, "to_disk", lambda path: synced.append(path.name))
    monkeypatch.setattr(fit_module, "save_weights", lambda weights, path: synced.append(path.name))
    fit(toy_run(toy_store), tmp_path, toy_store, **CPU)
    assert {"run.json", "history.csv", "scores.csv", "probabilities.npz", "log"} <= set(synced[:-1])
    assert synced[-1] == "weights.safetensors"


SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": "study", "SLURM_NNODES": "1"}
STEP = {"SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NODEID": "0", "SLURM_STEP_NUM_TASKS": "8"}
TORCHRUN = {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "1", "MASTER_ADDR": "a.invalid"}


def test_a_cluster_s_environment_changes_nothing(trained: tuple[Run, Path], toy_store: Store, tmp_path: Path) -> None:
    """That of sbatch, of a step that srun starts, and of torchrun, one after another in one process."""
    run, whole = trained
    clusters = {"sbatch": SLURM, "srun": SLURM | STEP, "torchrun": TORCHRUN}
    first = clusters["srun"]  # there when libraries are imported too
    (tmp_path / "run.json").write_text(run.dumps())
    script = textwrap.dedent(f"""
        import json, os, signal
        from pathlib import Path
        from tatl.training import tasks, trainer as fit_module
        from tatl.data.store import Store
        from tatl.run import Run
        fit_module.CHECKPOINT_SECONDS = 0
        original = tasks.Segmentation.loss
        def loss(self, *arguments):
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL  # nothing is requeued
            return original(self, *arguments)
        tasks.Segmentation.loss = loss
        run = Run.from_json(json.loads(Path({str(tmp_path / "run.json")!r}).read_text()))
        store = Store.open({str(toy_store.path)!r})
        before = {{name: value for name, value in os.environ.items() if name not in {sorted(first)}}}
        for name, variables in {clusters!r}.items():
            os.environ.clear()
            os.environ.update(before | variables)
            fit_module.fit(run, Path({str(tmp_path)!r}) / name, store, device="cpu", progress=False)
    """)
    words = [sys.executable, "-W", "error::UserWarning", "-c", script]
    done = subprocess.run(words, env={**os.environ, **first}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [content(run.folder(tmp_path / name)) for name in clusters] == [content(whole)] * 3


def test_of_several_gpus_no_generator_is_touched(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.random._fork_rng_warned_already", False)
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda device: pytest.fail(f"GPU {device} is none of this run's"))
    fit(toy_run(toy_store), tmp_path, toy_store, **CPU)


def flags() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    return (
        torch.get_deterministic_debug_mode(), cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory
    )  # fmt: skip


def test_on_cuda_kernels_are_deterministic_and_elsewhere_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = flags()
    with deterministic(torch.device("cpu")):
        assert flags() == before and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with pytest.raises(Broken), deterministic(torch.device("cuda")):
        assert flags() == (1, True, False, False) and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise Broken
    assert flags() == before


def test_adamw_and_a_cropping_run_resume_exactly_too(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesion = toy_run(toy_store, "lesion")
    crop = {"cropper": lesion, "offset": 3, "backbone": "efficientnet-b0"}
    run = toy_run(toy_store, "dot", epochs=2, optimizer="adamw", lr=0.002, pool="image", **crop)
    for root in ("a", "b"):
        fit(lesion, tmp_path / root, toy_store, **CPU)
    whole = fit(run, tmp_path / "a", toy_store, **CPU)
    break_at(steps(run, toy_store) + 1, monkeypatch)
    with pytest.raises(Broken):
        fit(run, tmp_path / "b", toy_store, **CPU)
    assert content(fit(run, tmp_path / "b", toy_store, **CPU)) == content(whole)


def test_a_stop_while_measuring_repeats_no_training(
    trained: tuple[Run, Path], toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(trained[0], recipe=replace(trained[0].recipe, epochs=1))
    break_at(1, monkeypatch, "finish")
    with pytest.raises(Broken):
        fit(run, tmp_path, toy_store, **CPU)
    break_at(1, monkeypatch, "loss")
    assert finished(run, tmp_path) is False
    fit(run, tmp_path, toy_store, **CPU)
    assert finished(run, tmp_path)


def test_a_finished_run_is_not_repeated(
    trained: tuple[Run, Path], toy_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = trained
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    monkeypatch.setattr(fit_module, "make_task", lambda *arguments: pytest.fail("trained again"))
    root = folder.parents[3]
    assert fit(run, root, toy_store, **CPU) == folder
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


@pytest.mark.parametrize(
    "kind",
    [{}, {"calibration": 0}, {"task": "context"}, {"start": "frozen-random"}, {"augment": True}],
    ids=["calibrated", "running", "context", "frozen", "augmented"],
)
def test_looking_at_the_start_changes_nothing_that_is_learnt(
    kind: dict[str, Any], toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run(toy_store, **{"epochs": 2, **kind})
    looked = fit(run, tmp_path / "looked", toy_store, **CPU)
    trainer = fit_module.L.Trainer
    monkeypatch.setattr(fit_module.L, "Trainer", lambda **given: trainer(**{**given, "num_sanity_val_steps": 0}))
    not_looked = fit(run, tmp_path / "not", toy_store, **CPU)
    assert (looked / "weights.safetensors").read_bytes() == (not_looked / "weights.safetensors").read_bytes()
    history, without = (pd.read_csv(folder / "history.csv") for folder in (looked, not_looked))
    assert history.iloc[0][["epoch", "step", "split"]].tolist() == [0, 0, "validation"]
    pd.testing.assert_frame_equal(history[1:].reset_index(drop=True), without)


def test_the_loss_of_the_start_is_that_of_its_weights(toy_store: Store, tmp_path: Path) -> None:
    """Steps of rate 1e-30 leave the weights as they are: the loss before them is the loss after them."""
    history = pd.read_csv(fit(toy_run(toy_store, lr=1e-30), tmp_path, toy_store, **CPU) / "history.csv")
    before, after = history[history["split"] == "validation"]["loss"]
    assert before == after


def test_patience_stops_early_and_keeps_the_best(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation losses .5, .4, .6, .7: with patience 2 the fifth epoch does not come, and the second is kept.

    That of the start, .3, is written down; it is no epoch's, so that it is neither the best nor counted by patience.
    """
    losses = iter([0.3, 0.5, 0.4, 0.6, 0.7, 0.1])
    monkeypatch.setattr(tasks.Segmentation, "validation_loss", lambda self, sums: next(losses))
    folder = fit(toy_run(toy_store, epochs=5, patience=2), tmp_path, toy_store, **CPU)
    history = pd.read_csv(folder / "history.csv")
    assert history[history["split"] == "validation"]["loss"].tolist() == [0.3, 0.5, 0.4, 0.6, 0.7]
    assert "best epoch 1 of 5, validation loss 0.4000" in (folder / "log").read_text()
    losses = iter([0.3, 0.5, 0.4])
    two = fit(toy_run(toy_store, epochs=2, patience=2), tmp_path, toy_store, **CPU)
    assert (folder / "weights.safetensors").read_bytes() == (two / "weights.safetensors").read_bytes()


def test_ctrl_c_is_a_keyboard_interrupt_and_training_goes_on_from_there(
    trained: tuple[Run, Path], toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole = trained
    handler = signal.getsignal(signal.SIGINT)
    break_at(steps(run, toy_store) + 2, monkeypatch, stop=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(run, tmp_path, toy_store, **CPU)
    assert signal.getsignal(signal.SIGINT) is handler
    assert content(fit(run, tmp_path, toy_store, **CPU)) == content(whole)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_named(damage: bytes, toy_store: Store, tmp_path: Path) -> None:
    run = toy_run(toy_store)
    run.folder(tmp_path).mkdir(parents=True)
    (run.folder(tmp_path) / "last.ckpt").write_bytes(damage)
    with pytest.raises(ValueError, match=r"last\.ckpt is not a checkpoint \(\w+\): delete .*last\.ckpt to train"):
        fit(run, tmp_path, toy_store, **CPU)


def test_a_checkpoint_of_another_run_is_refused(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run(toy_store, epochs=2)
    break_at(steps(run, toy_store) + 1, monkeypatch)
    with pytest.raises(Broken):
        fit(run, tmp_path, toy_store, **CPU)
    other = replace(run, seed=1)
    other.folder(tmp_path).mkdir(parents=True)
    (run.folder(tmp_path) / "last.ckpt").rename(other.folder(tmp_path) / "last.ckpt")
    with pytest.raises(ValueError, match=f"belongs to run {run.hash}, not {other.hash}: delete"):
        fit(other, tmp_path, toy_store, **CPU)


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = tasks.Segmentation.loss, []

    def loss(self: Any, indices: np.ndarray, device: torch.device) -> Tensor:
        seen.append(indices.tolist())
        value = original(self, indices, device)
        return value * float("nan") if len(seen) == 2 else value

    monkeypatch.setattr(tasks.Segmentation, "loss", loss)
    run = toy_run(toy_store, epochs=3)
    with pytest.raises(FloatingPointError) as caught:
        fit(run, tmp_path, toy_store, **CPU)
    images = f"images {', '.join(f'TOY_{row:04d}' for row in seen[1])} of store 'toy'"
    for words in ("the loss is nan at step 2 (epoch 0)", f"on {images}: lower", "lower --lr (now 0.01)"):
        assert words in str(caught.value)
    assert len(seen) == steps(run, toy_store) and not finished(run, tmp_path)


def test_pictures_that_no_store_holds_are_named_by_number() -> None:
    drawn: Any = SimpleNamespace(model=torch.nn.Linear(1, 1), ids=np.arange(20), of_store="")
    learner = Learner(texture_run(), drawn)
    learner._pending = [(torch.tensor(float("nan")), np.array([3, 14]))]
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 1 \(epoch 0\) on images 3, 14: lower"):
        learner._record()


def full_at(call: int, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> None:
    """The `call`-th call of a function finds the disk full, all others work."""
    original, calls = getattr(owner, name), iter(range(1, 10_000))

    def once(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise error
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, once)


# As raised on a file system that was full.
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
NO_ROOM = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("call", "owner", "name", "error"),
    [
        pytest.param(3, fit_module.L.Trainer, "save_checkpoint", NO_SPACE, id="checkpoint"),
        pytest.param(2, fit_module, "write_history", OSError(errno.EDQUOT, "Disk quota exceeded"), id="history"),
        pytest.param(1, tasks.np, "savez_compressed", NO_SPACE, id="probabilities"),
        pytest.param(1, fit_module, "save_file", NO_ROOM, id="weights"),
    ],
)
def test_a_full_disk_is_said_and_training_goes_on_from_there(
    trained: tuple[Run, Path],
    toy_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
    owner: Any,
    name: str,
    error: Exception,
) -> None:
    run, whole = trained
    full_at(call, monkeypatch, owner, name, error)
    with pytest.raises(OSError, match=rf"^the disk is full while {run.folder(tmp_path)} is written: free some space "):
        fit(run, tmp_path, toy_store, **CPU)
    assert not finished(run, tmp_path)
    break_at(
        1 if name in ("savez_compressed", "save_file") else 2 * steps(run, toy_store) + 1, monkeypatch
    )  # no step is repeated
    assert content(fit(run, tmp_path, toy_store, **CPU)) == content(whole)


def test_other_errors_stay_what_they_are(
    trained: tuple[Run, Path], toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_at(1, monkeypatch, fit_module.L.Trainer, "save_checkpoint", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(PermissionError, match="Permission denied"):
        fit(trained[0], tmp_path, toy_store, **CPU)


def test_a_validation_loss_that_is_not_finite_stops(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.Segmentation, "validation_loss", lambda self, sums: float("nan"))
    with pytest.raises(FloatingPointError, match=r"the validation loss is nan after step \d: lower --lr"):
        fit(toy_run(toy_store), tmp_path, toy_store, **CPU)


def test_a_run_that_another_process_trains_is_left_alone(toy_store: Store, tmp_path: Path) -> None:
    run = toy_run(toy_store)
    run.folder(tmp_path).mkdir(parents=True)
    with (
        FileLock(run.folder(tmp_path) / "lock"),
        pytest.raises(Busy, match=r"another process is training .*: wait for it, or stop it"),
    ):
        assert taken(run, tmp_path)
        fit(run, tmp_path, toy_store, **CPU)
    assert not taken(run, tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(
    number: int, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*given: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match=r"^the file system of .* has no file locks, .*: put --runs on another disk, "):
        fit(toy_run(toy_store), tmp_path, toy_store, **CPU)


def test_a_frozen_encoder_is_the_agnostic_network_s_to_the_bit(toy_store: Store, tmp_path: Path) -> None:
    agnostic = toy_run(toy_store, "union")
    target = toy_run(toy_store, "dot", start="tatl-freeze", parent=agnostic, epochs=2)
    source = load_file(fit(agnostic, tmp_path, toy_store, **CPU) / "weights.safetensors")
    weights = load_file(fit(target, tmp_path, toy_store, **CPU) / "weights.safetensors")
    changed = {k for k in weights if not torch.equal(weights[k], source[k]) and "num_batches" not in k}
    assert changed and not any(name.startswith("encoder.") for name in changed)
    assert {"head.weight", "head.bias"} <= changed
    assert any("running_mean" in name for name in changed)


def test_a_target_starts_from_the_agnostic_network(toy_store: Store, tmp_path: Path) -> None:
    agnostic = toy_run(toy_store, "union")
    folder = fit(agnostic, tmp_path, toy_store, **CPU)
    target = toy_run(toy_store, "dot", start="tatl", parent=agnostic)
    own = tasks.start_model(target, tmp_path).state_dict()
    source = load_file(folder / "weights.safetensors")
    assert all(torch.equal(own[k], source[k]) for k in own if not k.endswith("num_batches_tracked"))


def test_stage_1_writes_a_box_for_every_image_of_the_store(toy_store: Store, tmp_path: Path) -> None:
    run = toy_run(toy_store, "lesion")
    boxes = pd.read_csv(fit(run, tmp_path, toy_store, **CPU) / "boxes.csv")
    assert boxes["image"].tolist() == toy_store.cases["id"].tolist()
    assert (boxes["top"] < boxes["bottom"]).all() and (boxes["left"] < boxes["right"]).all()
    assert boxes["bottom"].max() <= 32 and boxes["right"].max() <= 64


def test_scores_are_taken_at_the_size_that_is_asked(toy_store: Store, tmp_path: Path) -> None:
    folder = fit(toy_run(toy_store, score_size="16x16"), tmp_path, toy_store, **CPU)
    assert probabilities_in(folder).shape[1:] == (16, 16)


def test_a_first_network_is_drawn_from_the_run_s_seed(toy_store: Store, tmp_path: Path) -> None:
    run = toy_run(toy_store, seed=3)
    own = tasks.start_model(run, tmp_path).state_dict()
    same = seeded(lambda: build("link", SMALL), 3).state_dict()
    assert all(torch.equal(own[k], same[k]) for k in own)


def test_the_global_generator_is_left_as_it_was(toy_store: Store, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    fit(toy_run(toy_store, seed=5), tmp_path, toy_store, **CPU)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_store_under_the_same_run_is_refused(toy_store: Store, tmp_path: Path) -> None:
    other = make_store(tmp_path / "toy", seed=1)
    with pytest.raises(ValueError, match=f"the run is of store 'toy' .*is another .*{other.digest}"):
        fit(toy_run(toy_store), tmp_path / "runs", other, **CPU)
    with pytest.raises(ValueError, match="a run of task 'disc' needs a store: give --store"):
        fit(toy_run(toy_store), tmp_path / "runs", None, **CPU)


def test_a_mask_that_is_unknown_everywhere_stops_a_run(tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy", lesions=False)
    with pytest.raises(ValueError, match="no training image of fold 0 of store 'toy' has lesion"):
        fit(toy_run(store, "lesion"), tmp_path / "runs", store, **CPU)


@pytest.mark.parametrize("mask", ["bar", "union", "shuffled-union"])
def test_images_where_the_mask_is_unknown_are_not_trained_with_and_have_no_score(mask: str, tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy", partly=("bar",))
    run, known = toy_run(store, mask), store.known("bar")
    parts, task = split(store, 0, 3), make_task(run, store, tmp_path / "runs")
    assert isinstance(task, Segmentation)
    trained = np.concatenate(task.calibration_batches(0))
    seen = np.concatenate([task.batches(0).ravel(), trained, *task.validation_batches()])
    lent = seen if task.feed.lender is None else task.feed.lender[seen]
    assert known[seen].all() and known[lent].all() and set(trained) <= set(parts.train[known[parts.train]])
    fit(run, tmp_path / "runs", store, **CPU)
    scores = pd.read_csv(run.folder(tmp_path / "runs") / "scores.csv")
    assert scores["image"].tolist() == store.cases["id"][parts.test].tolist()
    for name in CONFUSION:
        assert np.array_equal(scores[name].notna(), known[parts.test])
    rows = scores_of([Member("row", "link", 0, 0, name, run) for name in ("bar", "disc")], tmp_path / "runs", store)
    count = rows[(rows["attribute"] == "bar") | (rows["attribute"] == mask)].groupby("shape").size()
    assert set(count) == {int(known[parts.test].sum())} and not rows.isna().any(axis=None)


def test_a_mask_that_no_training_image_has_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy", every=(2, 3, 0))
    with pytest.raises(ValueError, match="no training image of fold 0 of store 'toy' has dot"):
        fit(toy_run(store, "dot"), tmp_path / "runs", store, **CPU)


def test_devices_that_are_not_there_are_refused(toy_store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device 'abacus' is unknown: choose auto, cpu or cuda"):
        pick_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device cuda was asked for and PyTorch sees none: use --device cpu"):
            pick_device("cuda")


def test_progress_is_lightnings_bar(toy_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(toy_run(toy_store), tmp_path, toy_store, device="cpu")
    assert "Epoch 0" in "".join(capsys.readouterr())
