"""Balanced epochs, and batches equal to what indexing the store gives."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import torch

from tatl.data.batches import MEAN, STD, Feed, balanced_batches, chunks, normalise
from tatl.data.crop import cut
from tatl.data.store import Store


def epoch(n: int, positives: int, batch: int, balance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    positive = np.random.default_rng(100 + seed).permutation(np.arange(n) < positives)
    return positive, balanced_batches(positive, batch, balance, np.random.default_rng(seed))


@pytest.mark.parametrize("batch", [1, 2, 7, 16])
@pytest.mark.parametrize("balance", [0.1, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("positives", [1, 3, 9])
def test_at_least_its_share_of_every_batch_is_positive(positives: int, balance: float, batch: int) -> None:
    positive, batches = epoch(100, positives, batch, balance)
    assert batches.shape == (ceil(100 / batch), batch)
    assert (positive[batches].sum(axis=1) == ceil(balance * batch)).all()


@pytest.mark.parametrize("positives", [0, 50, 80, 100])
def test_where_positives_are_frequent_or_absent_an_epoch_is_one_pass(positives: int) -> None:
    _, batches = epoch(100, positives, 10, 0.5)
    assert sorted(batches.ravel()) == list(range(100))


@pytest.mark.parametrize("n, positives, batch", [(100, 17, 8), (37, 5, 16), (5, 1, 4)])
def test_images_of_a_kind_are_seen_equally_often(n: int, positives: int, batch: int) -> None:
    positive, batches = epoch(n, positives, batch, 0.5)
    seen = np.bincount(batches.ravel(), minlength=n)
    for kind in (positive, ~positive):
        assert seen[kind].max() - seen[kind].min() <= 1


def test_no_balance_sees_every_image_about_once() -> None:
    _, batches = epoch(50, 3, 8, 0.0)
    seen = np.bincount(batches.ravel(), minlength=50)
    assert set(seen) <= {1, 2} and seen.sum() == 56


def test_an_epoch_is_a_function_of_its_generator() -> None:
    assert np.array_equal(epoch(60, 9, 8, 0.5, seed=4)[1], epoch(60, 9, 8, 0.5, seed=4)[1])
    assert not np.array_equal(epoch(60, 9, 8, 0.5, seed=4)[1], epoch(60, 9, 8, 0.5, seed=5)[1])


def test_chunks_are_consecutive_and_complete() -> None:
    pieces = chunks(np.arange(37), 16)
    assert [len(p) for p in pieces] == [16, 16, 5]
    assert np.array_equal(np.concatenate(pieces), np.arange(37))


def test_normalising_centres_and_scales_each_channel() -> None:
    images = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    expected = (torch.tensor([0.0, 128.0, 255.0]) - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(normalise(images)[0, :, 0, 0], expected)


@pytest.mark.parametrize("mask", ["lesion", "disc", "dot", "union"])
def test_a_feed_gives_what_indexing_gives(toy_store: Store, mask: str) -> None:
    indices = np.array([7, 3, 3, 23])
    x, y = Feed(toy_store, mask)(indices)
    assert x.dtype == y.dtype == torch.float32
    assert x.shape == (4, 3, 32, 64) and y.shape == (4, 1, 32, 64)
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x, normalise(torch.from_numpy(np.array(toy_store.images[indices]))))
    assert np.array_equal(y[:, 0].numpy(), toy_store.mask(mask, indices).astype(np.float32))
    assert y.any(dim=(1, 2, 3)).tolist() == toy_store.present(mask)[indices].tolist()


def test_the_union_is_any_attribute_and_not_the_lesion(toy_store: Store) -> None:
    everything = np.arange(len(toy_store))
    union = Feed(toy_store, "union")(everything)[1]
    attributes = [Feed(toy_store, name)(everything)[1] for name in toy_store.attributes]
    assert torch.equal(union, torch.stack(attributes).amax(0))


def test_a_cropping_feed_cuts_each_image_by_its_own_box(toy_store: Store) -> None:
    boxes = np.tile([0, 0, 32, 64], (len(toy_store), 1))
    boxes[5] = [8, 16, 24, 48]
    whole, cropping = Feed(toy_store, "disc"), Feed(toy_store, "disc", boxes)
    (x, y), (cx, cy) = whole(np.array([4, 5])), cropping(np.array([4, 5]))
    torch.testing.assert_close(cx[0], x[0], atol=1e-4, rtol=0)
    assert torch.equal(cy[0], y[0])
    assert torch.equal(cy[1], y[1, :, 8:24, 16:48].repeat_interleave(2, -1).repeat_interleave(2, -2))
    torch.testing.assert_close(cx[1:], cut(x[1:], torch.tensor([[8, 16, 24, 48]]), (32, 64)))
    assert set(cy.unique().tolist()) <= {0.0, 1.0}
    assert cx.is_contiguous(memory_format=torch.channels_last)


def test_feeding_leaves_the_store_as_it_is(toy_store: Store) -> None:
    x, y = Feed(toy_store, "disc")(np.arange(4))
    x.zero_(), y.fill_(1)
    toy_store.verify()
