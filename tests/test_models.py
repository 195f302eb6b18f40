"""The paper's networks, number for number, and logits for any image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tatl.losses import segmentation_loss
from tatl.models import SHAPES, build, count_parameters
from tatl.models.encoders import Classifier, EfficientNetB0

TABLE_7 = {"u": 10_115_501, "link": 6_096_333}


@pytest.fixture(scope="module", params=SHAPES)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return build(request.param).eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_parameter_counts_are_those_of_table_7(shape: str, offline: None) -> None:
    assert count_parameters(build(shape, "efficientnet-b0")) == TABLE_7[shape]


def test_the_encoder_holds_what_the_facts_say() -> None:
    encoder = EfficientNetB0()
    assert sum(p.numel() for p in encoder.parameters()) == 4_007_548
    assert count_parameters(encoder) == 4_049_564
    assert encoder.channels == (96, 144, 240, 672, 1280)


@torch.no_grad()
def test_features_halve_the_resolution_five_times() -> None:
    features = EfficientNetB0().eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [
        (96, 32, 48), (144, 16, 24), (240, 8, 12), (672, 4, 6), (1280, 2, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(32, 64), (33, 47), (7, 5), (1, 1), (31, 65)])
@torch.no_grad()
def test_logits_have_the_size_of_the_image(network: nn.Module, size: tuple[int, int]) -> None:
    logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 1, *size)
    assert logits.isfinite().all()


@torch.no_grad()
def test_padding_is_replication_of_the_edge_cropped_back(network: nn.Module) -> None:
    """An image whose sides are multiples of 32 is not padded; another is the crop of its replicated self."""
    image = torch.randn(1, 3, 64, 64)
    unpadded = network.head(network.decoder(image, network.encoder(image)))
    assert torch.equal(network(image), unpadded)
    cropped = image[..., :50, :40]
    padded = nn.functional.pad(cropped, (0, 24, 0, 14), mode="replicate")
    assert torch.equal(network(cropped), network(padded)[..., :50, :40])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_enters_the_loss(shape: str) -> None:
    model = build(shape)
    masks = (torch.rand(2, 1, 64, 64) > 0.5).float()
    segmentation_loss(model(torch.randn(2, 3, 64, 64)), masks).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@torch.no_grad()
def test_several_classes_and_other_backbones(offline: None) -> None:
    assert build("u", classes=5).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 5, 32, 32)
    for shape in SHAPES:
        assert build(shape, "resnet18").eval()(torch.zeros(1, 3, 40, 70)).shape == (1, 1, 40, 70)


@torch.no_grad()
def test_a_classifier_speaks_on_every_level(offline: None) -> None:
    assert Classifier("efficientnet-b0", 12).eval()(torch.zeros(2, 3, 48, 48)).shape == (5, 2, 12)


@pytest.mark.parametrize("backbone", ["efficientnet-b99", "tu-no-such-network"])
def test_an_unknown_backbone_is_refused(backbone: str) -> None:
    with pytest.raises(ValueError, match=f"backbone '{backbone}' .*get_encoder_names"):
        build("u", backbone)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape 'v' is unknown: choose one of u, link"):
        build("v")
