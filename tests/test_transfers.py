"""What a training step waits for: on a GPU nothing comes from the host and nothing goes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_gpu import GPU, Crossings, fake_gpu, move

from tatl.data import batches as feed
from tatl.data.batches import Feed, sent
from tatl.data.store import Store
from tatl.training.batch_norm import calibrate
from tatl.training.tasks import Segmentation, make_task
from toy import toy_run


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_gpu(monkeypatch):
        yield


def on_gpu(store: Store, task: str, **values: Any) -> Any:
    made = make_task(toy_run(store, task, **values), store, Path())
    move(made.model)
    if isinstance(made, Segmentation):
        made.feed.boxes = np.tile([4, 4, 30, 60], (len(store), 1))
    return made


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("task, shape", [("disc", "link"), ("shuffled-union", "u"), ("rotation", "encoder")])
def test_no_step_copies_to_the_device_or_reads_from_it(toy_store: Store, task: str, shape: str) -> None:
    made = on_gpu(toy_store, task, shape=shape, batch=8)
    training, validation = sent(made.batches(0), GPU), sent(made.validation_batches(), GPU)
    calibration = sent(made.calibration_batches(0), GPU)
    made.loss(training[0], GPU)
    with Crossings() as crossings:
        made.loss(training[1], GPU)
        calibrate(made.model, lambda indices: made.forward(indices, GPU), calibration)
        made.validation_sums(validation[0], GPU)
    assert crossings.sent == [] and crossings.read == []


@pytest.mark.usefixtures("gpu")
def test_a_step_of_context_restoration_sends_its_draws_alone(toy_store: Store) -> None:
    made = on_gpu(toy_store, "context", batch=8)
    first, second = sent(made.batches(0), GPU)[:2]
    made.forward(first, GPU)
    with Crossings() as crossings:
        made.forward(second, GPU)
    assert crossings.sent == [(8, 100, 2)] and crossings.read == []  # where the patches of 100 swaps lie


@pytest.mark.usefixtures("gpu")
def test_a_store_goes_to_a_device_once(toy_store: Store) -> None:
    with Crossings() as crossings:
        for mask in ("disc", "bar", "union"):
            for device in ("cuda", "cuda:0", torch.device("cuda"), GPU):
                x, y = Feed(toy_store, mask)(np.arange(5), device)
                assert x.device == y.device == GPU
    stores = [shape for shape in crossings.sent if shape[0] == len(toy_store)]
    assert stores == [(24, 32, 64, 3), (24, 32, 64)]


def test_what_is_held_is_what_is_copied(toy_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the free memory may be taken: by images of three bytes and masks of two."""
    needed = 24 * 32 * 64 * (3 + 2)
    for free, held in ((2 * needed, True), (2 * needed - 2, False)):
        with fake_gpu(monkeypatch, free):
            assert (feed._resident(toy_store, GPU) is not None) == held
            with Crossings() as crossings:
                Feed(toy_store, "disc")(np.arange(5), GPU)
        assert ((5, 32, 64, 3) in crossings.sent) != held


@pytest.mark.parametrize("mask", ["lesion", "disc", "dot", "union"])
@pytest.mark.parametrize("borrowed", [False, True])
def test_a_held_store_gives_what_indexing_gives(
    toy_store: Store, monkeypatch: pytest.MonkeyPatch, mask: str, borrowed: bool
) -> None:
    boxes = np.tile([3, 4, 30, 60], (len(toy_store), 1))
    lender = np.roll(np.arange(len(toy_store)), 5) if borrowed else None
    indices = np.array([7, 4, 4, 12, 23])
    plain = Feed(toy_store, mask, boxes, lender)(indices)
    held = torch.from_numpy(np.array(toy_store.images)), torch.from_numpy(np.array(toy_store.masks).view(np.int16))
    monkeypatch.setattr(feed, "_resident", lambda store, device: held)
    for own, other in zip(plain, Feed(toy_store, mask, boxes, lender)(indices), strict=True):
        assert torch.equal(own, other)
    assert plain[1].any()


def test_indices_that_were_sent_are_themselves_and_what_is_made_of_them_is_not() -> None:
    batches = [np.array([3, 1, 2]), np.array([5])]
    there = sent(batches, torch.device("meta"))
    assert all(np.array_equal(own, other) for own, other in zip(there, batches, strict=True))
    assert [feed.placed(each, torch.device("meta")).shape for each in there] == [(3,), (1,)]
    assert there[0].there is not None and there[0][1:].there is None  # type: ignore[attr-defined]
    assert feed.placed(there[0], torch.device("cpu")).tolist() == [3, 1, 2]
