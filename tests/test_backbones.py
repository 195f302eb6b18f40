"""Any encoder of segmentation-models-pytorch is a backbone, or says in one sentence why it is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from tatl.__main__ import main
from tatl.data.store import Store
from tatl.models import Segmenter, build, count_parameters
from tatl.models.decoders import DECODERS, OUT_CHANNELS
from tatl.models.encoders import SmpEncoder, encoder

FLAT = [name for name in smp.encoders.get_encoder_names() if name.startswith("mit_")]


def families() -> list[str]:
    """The first encoder of each family, which is named before its first number, such as resnet18 of resnet."""
    others = [name for name in smp.encoders.get_encoder_names() if name not in FLAT]
    first: dict[str, str] = {}
    for name in others:
        if name != "efficientnet-b0":  # which is our own
            first.setdefault(re.split(r"\d|-b", name)[0], name)
    return list(first.values())


def test_the_sample_has_every_kind() -> None:
    assert {"resnet18", "vgg11", "densenet121", "efficientnet-b1", "mobilenet_v2", "xception"} < set(families())
    assert 15 <= len(families()) < len(smp.encoders.get_encoder_names()) / 2


@pytest.mark.filterwarnings("ignore:`timm-` encoders are deprecated:DeprecationWarning")  # and still there
@pytest.mark.parametrize("name", families())
def test_an_encoder_of_every_family_carries_both_shapes(name: str, offline: None) -> None:
    """Shapes alone, without numbers: features at 1/2 to 1/32, and logits of the image's size."""
    with torch.device("meta"):
        features = encoder(name).eval()
        image = torch.zeros(1, 3, 64, 96)
        levels = [tuple(level.shape[1:]) for level in features(image)]
        assert isinstance(features, SmpEncoder)
        assert levels == [(c, 64 >> k, 96 >> k) for k, c in enumerate(features.channels, 1)] and len(levels) == 5
        for shape in ("u", "link"):
            decoder = DECODERS[shape](features.channels)
            model = Segmenter(features, decoder, nn.Conv2d(OUT_CHANNELS, 1, 3, padding=1)).eval()
            assert model(torch.zeros(1, 3, 50, 70)).shape == (1, 1, 50, 70)
            assert count_parameters(model) > count_parameters(features)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", [FLAT[0], "tu-convnext_atto"])
def test_an_encoder_without_features_at_a_half_is_refused(name: str, device: str, offline: None) -> None:
    with torch.device(device), pytest.raises(ValueError, match=f"backbone '{name}' has no features at 1/2 of") as told:
        build("u", name)
    assert str(told.value).endswith("choose another backbone, such as efficientnet-b0 or resnet50")


def test_every_encoder_that_smp_cannot_use_is_refused_by_name(offline: None) -> None:
    assert len(FLAT) == 6
    for name in FLAT:
        with pytest.raises(ValueError, match="has no features at 1/2"):
            encoder(name)


def test_a_model_that_is_no_pyramid_is_refused(offline: None) -> None:
    with pytest.raises(ValueError, match="backbone 'tu-vit_tiny_patch16_224' is no feature pyramid"):
        encoder("tu-vit_tiny_patch16_224")


@pytest.mark.parametrize("command", [["study", "backbones", "--backbones", "resnet18,mit_b0"], ["train"]])
def test_a_backbone_that_does_not_fit_stops_before_training(
    command: list[str], toy_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*command, *(["--variant", "stage3", "--backbone", "mit_b0"] if command == ["train"] else [])]
    words += ["--store", str(toy_store.path), "--preset", "smoke", "--attributes", "disc"]
    assert main([*words, "--runs", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: backbone 'mit_b0' has no features at 1/2") and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()
