"""The paper's networks, number for number, and logits for any image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tatl.losses import segmentation_loss
from tatl.models import SHAPES, Segmenter, build, count_parameters
from tatl.models.decoders import DECODERS, OUT_CHANNELS, Gate, Open
from tatl.models.encoders import Classifier, EfficientNetB0, encoder

TABLE_7 = {"u": 10_115_501, "link": 6_096_333}
BACKBONES = ("vgg16", "resnet152", "inceptionresnetv2", "densenet169", "xception")


@pytest.fixture(scope="module", params=SHAPES)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return build(request.param).eval()


@pytest.mark.parametrize("shape", TABLE_7)
def test_parameter_counts_are_those_of_table_7(shape: str, offline: None) -> None:
    assert count_parameters(build(shape, "efficientnet-b0")) == count_parameters(build(shape)) == TABLE_7[shape]


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
    known = "efficientnet-lite0, resnet18, .*efficientnet-b0"
    with pytest.raises(ValueError, match=f"backbone '{backbone}' is unknown: choose one of {known}"):
        build("u", backbone)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape 'v' is unknown: choose one of u, link"):
        build("v")


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> nn.Module:
    """The large backbones of Table 8 and of the ISIC 2018 winner, made once for all decoders."""
    torch.manual_seed(0)
    return encoder(request.param)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("shape", ["link", "pyramid"])
@torch.no_grad()
def test_large_backbones_fit_the_shapes(shape: str, name: str, offline: None) -> None:
    """Their shapes without their numbers."""
    with torch.device("meta"):
        assert build(shape, name).eval()(torch.zeros(1, 3, 50, 70)).shape == (1, 1, 50, 70)


@pytest.mark.large
@pytest.mark.parametrize("shape", ["link", "pyramid"])
def test_large_backbones_give_logits_and_use_all_they_hold(shape: str, backbone: Any, offline: None) -> None:
    """The pyramid holds the U."""
    decoder = DECODERS[shape](backbone.channels)
    model = Segmenter(backbone, decoder, nn.Conv2d(OUT_CHANNELS, 1, 3, padding=1))
    with torch.no_grad():
        logits = model.eval()(torch.randn(1, 3, 50, 70))
    assert logits.shape == (1, 1, 50, 70) and logits.isfinite().all()
    model.train().zero_grad()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_the_ungated_decoder_is_smp_s() -> None:
    """Written out so that gates may stand in it, the U decoder computes what segmentation-models-pytorch's does."""
    torch.manual_seed(0)
    channels = (8, 16, 24, 32, 40)
    decoder = DECODERS["u"](channels).eval()
    image = torch.randn(1, 3, 64, 96)
    features = [torch.randn(1, c, 32 >> level, 48 >> level) for level, c in enumerate(channels)]
    assert torch.equal(decoder(image, features), decoder.decoder([image, *features]))


def gate_and_inputs() -> tuple[Gate, Tensor, Tensor]:
    torch.manual_seed(0)
    return Gate(6, 10).eval(), torch.randn(2, 6, 8, 12), torch.randn(2, 10, 4, 6)


@torch.no_grad()
def test_a_gate_keeps_the_skip_s_shape_and_weighs_its_pixels() -> None:
    gate, x, g = gate_and_inputs()
    alpha = gate.alpha(x, g)
    assert gate(x, g).shape == x.shape and alpha.shape == (2, 1, 4, 6)
    assert ((alpha > 0) & (alpha < 1)).all()
    assert gate.theta.bias is None and gate.theta.weight.shape == (3, 6, 2, 2)
    assert gate(x, g[..., :2, :3]).shape == x.shape  # a coarser signal is up-sampled


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@torch.no_grad()
def test_alpha_one_leaves_the_skip_and_alpha_zero_takes_it_away(alpha: float) -> None:
    gate, x, g = gate_and_inputs()
    gate.psi.weight.zero_()
    gate.psi.bias.fill_(200 if alpha else -200)
    torch.testing.assert_close(gate(x, g), gate.out(alpha * x))


@pytest.mark.parametrize("shape", ["u", "link"])
def test_every_skip_but_the_finest_is_gated(shape: str) -> None:
    kinds = [
        [type(gate) for gate in DECODERS[name]((4, 8, 12, 16, 20)).gates] for name in (shape, f"attention-{shape}")
    ]
    assert kinds == [[Open] * 4, [Gate, Gate, Gate, Open]]


def test_gates_change_nothing_else() -> None:
    """The attention shapes hold the plain shape's tensors and those of their gates."""
    for shape in ("u", "link"):
        plain, gated = (DECODERS[name]((4, 8, 12, 16, 20)).state_dict() for name in (shape, f"attention-{shape}"))
        assert {k for k in gated if not k.startswith("gates.")} == plain.keys()
        assert all(gated[k].shape == plain[k].shape for k in plain)


def test_the_signal_is_the_next_coarser_output() -> None:
    """Shapes alone pin it: phi takes the channels of the top, then of each block's output."""
    channels = (4, 8, 12, 16, 20)
    for shape, signals in (("attention-u", [20, 256, 128]), ("attention-link", [20, 16, 12])):
        gates = list(DECODERS[shape](channels).gates)[:3]
        assert [gate.phi.in_channels for gate in gates] == signals
        assert [gate.theta.in_channels for gate in gates] == [16, 12, 8]
