"""Starts copy what they declare, to the last tensor, and say what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from tatl.models import build
from tatl.models.encoders import Classifier, EfficientNetB0
from tatl.models.imagenet import CLASSIFIERS, file_digest, imagenet_encoder
from tatl.models.starts import START_RULES, freeze, read_weights, seeded, start_rule, transfer

PARTS = ("encoder", "decoder", "head")


def fresh(seed: int, shape: str = "link") -> nn.Module:
    return seeded(lambda: build(shape), seed)


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> set[str]:
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


def shaken(model: nn.Module, seed: int = 5) -> nn.Module:
    """Every tensor moved, norms' statistics too, so that nothing is equal by chance."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor += 0.01 * torch.rand(tensor.shape, generator=generator)
    return model


@pytest.mark.parametrize("start", START_RULES)
def test_transfer_copies_the_declared_parts_and_leaves_the_rest(start: str) -> None:
    parts = start_rule(start).parts
    source, model, before = shaken(fresh(1)), fresh(2), fresh(2)
    transfer(model, source.state_dict(), parts)
    own, given, old = model.state_dict(), source.state_dict(), before.state_dict()
    for name in own:
        copied = name.partition(".")[0] in parts and not name.endswith("num_batches_tracked")
        assert torch.equal(own[name], given[name] if copied else old[name]), name


def test_transfer_copies_values_and_not_references() -> None:
    source, model = shaken(fresh(1)), fresh(2)
    transfer(model, source.state_dict(), PARTS)
    shaken(source)
    assert differing(model.state_dict(), source.state_dict())


def test_a_classifier_s_encoder_fits_a_segmenter() -> None:
    source, model = shaken(Classifier("efficientnet-b0", 12)), fresh(2)
    transfer(model, source.state_dict(), ("encoder",))
    assert not differing(model.encoder.state_dict(), source.encoder.state_dict())


def test_mismatches_are_named() -> None:
    weights = dict(fresh(1).state_dict())
    del weights["encoder.conv_stem.weight"]
    weights["encoder.surplus"] = torch.zeros(1)
    weights["encoder.bn2.weight"] = torch.zeros(3)
    with pytest.raises(ValueError) as caught:
        transfer(fresh(2), weights, ("encoder",))
    for word in (
        "the encoder (3 mismatches)",
        "missing conv_stem.weight",
        "unexpected surplus",
        "bn2.weight is (3,), expected (1280,)",
    ):
        assert word in str(caught.value)


def test_a_refused_transfer_changes_nothing_in_that_part() -> None:
    model, before = fresh(2), fresh(2)
    with pytest.raises(ValueError, match="the decoder"):
        transfer(model, fresh(1, "u").state_dict(), ("decoder",))
    assert not differing(model.state_dict(), before.state_dict())


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'warm' is unknown: choose one of random, source, rotation, context"):
        start_rule("warm")


def test_first_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(11)
    drawn = torch.rand(3)
    torch.manual_seed(11)
    one = fresh(4)
    assert torch.equal(torch.rand(3), drawn)  # the global generator is as it was
    assert not differing(one.state_dict(), fresh(4).state_dict())
    assert differing(one.state_dict(), fresh(5).state_dict())


def files_of(kind: str, folder: Path) -> tuple[Path, nn.Module]:
    """A file of EfficientNet-b0 weights as its library names them, and the library's model."""
    torch.manual_seed(0)
    library = timm.create_model("efficientnet_b0") if kind.startswith("timm") else torchvision.models.efficientnet_b0()
    shaken(library.eval())
    path = folder / ("weights.safetensors" if kind.endswith("safetensors") else "weights.pth")
    state = library.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if kind == "timm in a checkpoint" else state, path)
    return path, library


@pytest.mark.parametrize("kind", ["timm", "timm safetensors", "timm in a checkpoint", "torchvision"])
@torch.no_grad()
def test_files_of_timm_and_torchvision_give_the_library_s_features(kind: str, tmp_path: Path, offline: None) -> None:
    path, library = files_of(kind, tmp_path)
    model = fresh(1)
    transfer(model, imagenet_encoder("efficientnet-b0", path), ("encoder",))
    image = torch.randn(2, 3, 64, 96)
    expected = library.forward_features(image) if kind.startswith("timm") else library.features(image)
    torch.testing.assert_close(model.encoder.eval()(image)[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["timm", "torchvision"])
def test_a_file_of_another_network_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    other = timm.create_model("efficientnet_b1") if kind == "timm" else torchvision.models.efficientnet_b1()
    torch.save(other.state_dict(), tmp_path / "b1.pth")
    with pytest.raises(
        ValueError, match=r"b1\.pth: the weights do not fit the encoder efficientnet-b0 \(\d+ mis"
    ) as no:
        imagenet_encoder("efficientnet-b0", tmp_path / "b1.pth")
    surplus = {"timm": "blocks.0.1.", "torchvision": "features.1.1.block."}[kind]
    assert f"unexpected {surplus}" in str(no.value)
    assert "give a file of efficientnet-b0 as torchvision" in str(no.value)


LIBRARY = {
    "vgg16": lambda: without_weight(torchvision.models.vgg16(init_weights=False), "classifier"),
    "resnet18": torchvision.models.resnet18,
    "densenet121": torchvision.models.densenet121,
    "tu-efficientnet_b1": lambda: timm.create_model("efficientnet_b1"),
}


def without_weight(library: nn.Module, part: str) -> nn.Module:
    """A network whose part has no weights but its biases, so that its file is small."""
    for layer in library.get_submodule(part).modules():
        if isinstance(layer, nn.Linear):
            layer.weight = None  # type: ignore[assignment]
    return library


def features_of(backbone: str, library: nn.Module, image: Tensor) -> Tensor:
    """The library's last features, before any pooling."""
    if backbone.startswith("resnet"):
        stem = library.maxpool(library.relu(library.bn1(library.conv1(image))))  # type: ignore[operator]
        return library.layer4(library.layer3(library.layer2(library.layer1(stem))))  # type: ignore[operator]
    if backbone.startswith("tu-"):
        return library.blocks(library.bn1(library.conv_stem(image)))  # type: ignore[operator]
    return library.features(image)  # type: ignore[operator]


@pytest.mark.parametrize("backbone", LIBRARY)
@torch.no_grad()
def test_any_library_s_file_of_a_backbone_gives_its_features(backbone: str, tmp_path: Path, offline: None) -> None:
    """Classifiers aside, the file is the encoder."""
    library = shaken(LIBRARY[backbone]().eval())
    torch.save(library.state_dict(), tmp_path / "weights.pth")
    before = torch.random.get_rng_state()
    weights = imagenet_encoder(backbone, tmp_path / "weights.pth")
    assert torch.equal(torch.random.get_rng_state(), before)
    model = build("link", backbone)
    transfer(model, weights, ("encoder",))
    image = torch.randn(1, 3, 64, 96)
    expected = features_of(backbone, library, image)
    torch.testing.assert_close(model.encoder.eval()(image)[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classifier", [*CLASSIFIERS, "surplus."])
def test_only_declared_classifiers_are_left_out(classifier: str, tmp_path: Path) -> None:
    state = build("link", "resnet18").encoder.encoder.state_dict()
    torch.save({**state, f"{classifier}weight": torch.zeros(1)}, tmp_path / "weights.pth")
    if classifier in CLASSIFIERS:
        assert len(imagenet_encoder("resnet18", tmp_path / "weights.pth")) == len(state)
    else:
        with pytest.raises(ValueError, match=r"\(1 mismatches\): unexpected surplus\.weight"):
            imagenet_encoder("resnet18", tmp_path / "weights.pth")


def test_timm_s_inception_has_the_names_of_ours(tmp_path: Path) -> None:
    """Not its features: timm's has no padding, and Table 8's is segmentation-models-pytorch's."""
    library = timm.create_model("inception_resnet_v2")
    torch.save(library.state_dict(), tmp_path / "weights.pth")
    weights, name = imagenet_encoder("inceptionresnetv2", tmp_path / "weights.pth"), "repeat_1.4.conv2d.weight"
    assert torch.equal(weights[f"encoder.encoder.{name}"], library.state_dict()[name])


def test_a_densenet_file_of_old_names(tmp_path: Path) -> None:
    """norm.1 and conv.2, as torchvision's own files still have them."""
    library = shaken(torchvision.models.densenet121())
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", k): v for k, v in library.state_dict().items()}
    old = {k: v for k, v in old.items() if not k.endswith("num_batches_tracked")}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    weights = imagenet_encoder("densenet121", tmp_path / "old.pth")
    name = "denseblock3.denselayer7.conv2.weight"
    assert torch.equal(weights[f"encoder.encoder.features.{name}"], library.state_dict()[f"features.{name}"])


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet-b1"])
def test_a_file_of_segmentation_models_pytorch(backbone: str, tmp_path: Path) -> None:
    model = build("link", backbone)
    save_file(shaken(model.encoder.encoder).state_dict(), tmp_path / "model.safetensors")
    other = build("link", backbone)
    transfer(other, imagenet_encoder(backbone, tmp_path / "model.safetensors"), ("encoder",))
    assert not differing(other.encoder.state_dict(), model.encoder.state_dict())


@pytest.mark.parametrize(
    ("backbone", "first"), [("resnet34", "missing layer1.2."), ("densenet121", "missing features.conv0.")]
)
def test_a_file_of_another_backbone_is_refused_by_name(backbone: str, first: str, tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match=rf"resnet18\.pth: the weights do not fit the encoder {backbone}") as caught:
        imagenet_encoder(backbone, tmp_path / "resnet18.pth")
    assert first in str(caught.value) and f"give a file of {backbone} as torchvision, timm or" in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not be run",)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"\0", b"not weights", b"\x80\x02}", bytes(range(256)) * 8, b"PK\x03\x04" * 9]
)
def test_what_is_no_checkpoint_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"file{suffix} (is not a file of weights .*: give a|holds no state dict)"):
        read_weights(path)


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {"state_dict": {"a": 1}}, torch.zeros(3), None])
def test_a_pickle_without_a_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"holds no state dict of tensors: save model\.state_dict"):
        read_weights(tmp_path / "file.pth")


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": Evil()}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="is not a file of weights"):
        read_weights(tmp_path / "file.pth")
    assert capsys.readouterr().out == ""


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    for name in ("whole.pth", "whole.safetensors"):
        state = {"a": torch.randn(1000)}
        torch.save(state, tmp_path / name) if name.endswith("pth") else save_file(state, tmp_path / name)
        path = tmp_path / f"cut{(tmp_path / name).suffix}"
        path.write_bytes((tmp_path / name).read_bytes()[:-900])
        with pytest.raises(ValueError, match="is not a file of weights"):
            read_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere\.pth: give a \.safetensors or \.pth file"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere\.pth"):
        file_digest(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("backbone, where", [("efficientnet-b0", timm), ("resnet18", None)])
def test_an_unreachable_hub_says_how_to_give_a_file(backbone: str, where: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch as smp

    def unreachable(*arguments: Any, **options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(*((timm, "create_model") if where else (smp.encoders, "get_encoder")), unreachable)
    with pytest.raises(
        RuntimeError, match=rf"{backbone} .*\(OSError\): give a local file with --imagenet-weights FILE"
    ):
        imagenet_encoder(backbone)


def test_hub_weights_fit_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: create(name))
    transfer(fresh(1), imagenet_encoder("efficientnet-b0"), ("encoder",))


def test_the_digest_names_the_content(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c and len(a) == 12


def test_a_frozen_encoder_keeps_weights_and_statistics() -> None:
    encoder = EfficientNetB0()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    freeze(encoder)
    encoder(torch.randn(2, 3, 64, 64))
    assert not differing(before, encoder.state_dict())
    assert not any(p.requires_grad for p in encoder.parameters())
