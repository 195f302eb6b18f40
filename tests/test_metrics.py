"""The official definition on 4x4 masks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tatl.training.metrics import confusion, dice, jaccard, score_summary, score_table


def picture(text: str) -> np.ndarray:
    """A mask drawn with # and . in rows separated by spaces."""
    return np.array([[c == "#" for c in row] for row in text.split()])


EMPTY = picture(".... .... .... ....")
FULL = ~EMPTY
LEFT = picture("##.. ##.. ##.. ##..")
TOP = picture("#### #### .... ....")
CORNER = picture("#... .... .... ....")


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (LEFT, TOP, (4, 4, 4, 4)),
        (LEFT, LEFT, (8, 0, 0, 8)),
        (EMPTY, EMPTY, (0, 0, 0, 16)),
        (FULL, EMPTY, (0, 16, 0, 0)),
        (EMPTY, FULL, (0, 0, 16, 0)),
        (CORNER, TOP, (1, 0, 7, 8)),
    ],
)
def test_confusion_counts_pixels_as_shares_of_the_area(
    prediction: np.ndarray, truth: np.ndarray, expected: tuple[int, ...]
) -> None:
    assert confusion(prediction, truth).tolist() == [n / 16 for n in expected]


def test_confusion_is_vectorised_and_takes_any_area() -> None:
    predictions, truths = np.stack([LEFT, FULL]), np.stack([TOP, EMPTY])
    both = confusion(predictions, truths)
    assert both.dtype == np.float64 and both.shape == (2, 4)
    assert both[1].tolist() == confusion(FULL, EMPTY).tolist()
    assert confusion(LEFT[:3], TOP[:3]).tolist() == [4 / 12, 2 / 12, 4 / 12, 2 / 12]
    np.testing.assert_allclose(confusion(np.ones((3, 7)), np.zeros((3, 7))).sum(), 1)


def test_confusion_refuses_masks_of_two_sizes() -> None:
    with pytest.raises(ValueError, match=r"prediction \(4, 4\) and truth \(3, 4\) differ in shape"):
        confusion(LEFT, TOP[:3])


def test_nothing_found_where_nothing_is_counts_as_one() -> None:
    assert jaccard(*np.zeros(3)) == 1 and dice(*np.zeros(3)) == 1
    values = np.array([[0, 0.25, 0], [0, 0, 0], [0.25, 0, 0]])
    assert jaccard(*values.T).tolist() == [0, 1, 1]
    assert dice(*values.T).tolist() == [0, 1, 1]


def test_jaccard_and_dice_by_hand() -> None:
    tp, fp, fn, _ = confusion(LEFT, TOP)
    assert (jaccard(tp, fp, fn), dice(tp, fp, fn)) == (4 / 12, 8 / 16)


def test_dice_is_a_formula_of_jaccard() -> None:
    tp, fp, fn = np.random.default_rng(0).uniform(size=(3, 50))
    j = jaccard(tp, fp, fn)
    np.testing.assert_allclose(dice(tp, fp, fn), 2 * j / (1 + j), rtol=1e-14)


@pytest.fixture
def scores() -> pd.DataFrame:
    """Two images, two attributes: a common one half found, a rare one missed and, once, invented."""
    common = confusion(np.stack([LEFT, LEFT]), np.stack([TOP, LEFT]))
    rare = confusion(np.stack([EMPTY, CORNER]), np.stack([EMPTY, EMPTY]))
    return pd.concat([score_table(["a", "b"], "common", common), score_table(["a", "b"], "rare", rare)])


def test_pooled_scores_sum_over_images_before_dividing(scores: pd.DataFrame) -> None:
    table = score_summary(scores).set_index("attribute")
    assert table.loc["common", "jaccard"] == 12 / 20
    assert table.loc["common", "dice"] == 24 / 32
    assert table.loc["rare", ["jaccard", "dice"]].tolist() == [0, 0]
    assert table.loc["common", "image_jaccard"] == pytest.approx((4 / 12 + 1) / 2, rel=1e-15)
    assert table.loc["rare", ["image_jaccard", "image_dice"]].tolist() == [1 / 2, 1 / 2]


def test_average_is_over_attributes_and_micro_over_everything(scores: pd.DataFrame) -> None:
    table = score_summary(scores).set_index("attribute")
    assert table.index.tolist() == ["common", "rare", "average", "micro"]
    assert table.loc["average", "jaccard"] == pytest.approx((12 / 20 + 0) / 2, rel=1e-15)
    assert table.loc["micro", "jaccard"] == 12 / 21
    assert table.loc["micro", "dice"] == 24 / 33
    assert table["images"].tolist() == [2, 2, 2, 2]
    assert table["positives"].tolist() == [2, 0, 2, 2]


def test_images_of_different_area_weigh_the_same() -> None:
    """Fractions, not pixels, are summed: a missed 2x2 image costs as much as a found 4x4 one gains."""
    small = confusion(np.zeros((2, 2), bool), np.ones((2, 2), bool))
    table = score_summary(score_table(["big", "small"], "x", np.stack([confusion(FULL, FULL), small])))
    assert table.loc[0, "jaccard"] == 1 / 2


def test_no_scores_is_an_error() -> None:
    with pytest.raises(ValueError, match="no score to summarise"):
        score_summary(score_table([], "x", np.zeros((0, 4))))
