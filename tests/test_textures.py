"""A dozen textures that are what their number says, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from tatl.data.phantom.textures import CLASSES, draw_texture, draw_textures


def test_classes_come_in_turn() -> None:
    images, labels = draw_textures(26, 32, seed=0)
    assert images.shape == (26, 32, 32, 3) and images.dtype == np.uint8
    assert labels.tolist() == [i % 12 for i in range(26)] and len(CLASSES) == 12


def test_same_seed_same_bytes_whatever_the_count() -> None:
    few, many = draw_textures(5, 24, seed=3)[0], draw_textures(20, 24, seed=3)[0]
    assert np.array_equal(few, many[:5])
    assert not np.array_equal(few, draw_textures(5, 24, seed=4)[0])


@pytest.mark.parametrize("label", range(12), ids=list(CLASSES))
def test_a_texture_has_contrast_and_varies(label: int) -> None:
    pictures = [draw_texture(label, 48, np.random.default_rng(i)) for i in range(4)]
    for picture in pictures:
        assert picture.mean(axis=2).std() > 8
        assert 10 < picture.mean() < 245
    assert not np.array_equal(pictures[0], pictures[1])


def test_classes_differ_by_more_than_their_colour() -> None:
    """The nearest class by mean spectrum beats chance by far: there is something to learn."""

    def spectrum(pictures: np.ndarray) -> np.ndarray:
        grey = pictures.mean(axis=-1)
        grey = (grey - grey.mean((1, 2), keepdims=True)) / grey.std((1, 2), keepdims=True)
        return np.log1p(np.sort(np.abs(np.fft.rfft2(grey)).reshape(len(grey), -1), axis=1)[:, ::-1][:, :200])

    images, labels = draw_textures(360, 32, seed=1)
    features = spectrum(images)
    centres = np.stack([features[:240][labels[:240] == k].mean(0) for k in range(12)])
    guesses = np.linalg.norm(features[240:, None] - centres, axis=2).argmin(1)
    assert (guesses == labels[240:]).mean() > 3 / 12
