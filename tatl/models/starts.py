"""How a network may start, and the one function that copies weights.

A start names the run it copies from and the parts that are copied; what is skipped is declared, and any other
mismatch raises.  ImageNet weights come from a cache or hub, or from a file as torchvision, timm or
segmentation-models-pytorch save it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tatl.models import lite0
from tatl.models.encoders import SmpEncoder, encoder
from tatl.names import LITE0

# What files of weights hold and no encoder has: the classifiers of torchvision, timm and segmentation-models-pytorch.
CLASSIFIERS = ("classifier.", "fc.", "last_linear.", "_fc.", "linear.", "classif.", "head.", "pre_logits.")
UNIVERSAL = "tu-"  # encoders that are timm's models as they are
AFTER = ("conv_head.", "bn2.")  # of timm's EfficientNets, behind the last features that these give

ENCODER = ("encoder",)
EVERYTHING = ("encoder", "decoder", "head")


@dataclass(frozen=True)
class Initialisation:
    """What a start copies (`parts`), whether the encoder then stays fixed, and what it is, in words.

    `long`: its targets train for the epochs of Stage 2 and Stage 3 together.
    """

    parts: tuple[str, ...]
    frozen: bool
    meaning: str
    long: bool = False


INITIALISATIONS = {
    "random": Initialisation((), False, "random weights"),
    "source": Initialisation(ENCODER, False, "encoder from the source domain, decoder random"),
    "rotation": Initialisation(
        ENCODER, False, "encoder from telling quarter turns apart by every level, decoder random"
    ),
    "context": Initialisation(
        ("encoder", "decoder"), False, "encoder and decoder from putting swapped patches back, head random"
    ),
    "tatl": Initialisation(EVERYTHING, False, "encoder and decoder from the agnostic network (Stage 2)"),
    "tatl-freeze": Initialisation(EVERYTHING, True, "as tatl, the encoder kept fixed"),
    # Controls that the paper does not have: is it the union, any mask, more steps, or no learning at all?
    "lesion": Initialisation(EVERYTHING, False, "encoder and decoder from finding the lesion instead of the union"),
    "shuffled-union": Initialisation(EVERYTHING, False, "encoder and decoder from the union masks of other images"),
    "source-long": Initialisation(ENCODER, False, "as source, for as many steps as Stage 2 and 3 together", long=True),
    "frozen-random": Initialisation((), True, "random weights, the encoder kept fixed"),
}


def initialisation(start: str) -> Initialisation:
    """The start called so; ValueError lists the known ones."""
    if start not in INITIALISATIONS:
        raise ValueError(f"start {start!r} is unknown: choose one of {', '.join(INITIALISATIONS)}")
    return INITIALISATIONS[start]


def transfer(model: nn.Module, weights: Mapping[str, Tensor], parts: Sequence[str]) -> None:
    """Copy the `parts` (top-level modules) of `weights` into the model; all other weights stay as they are.

    Raises ValueError with the first names that are missing, left over or of another shape.
    """
    for part in parts:
        inside = {name[len(part) + 1 :]: value for name, value in weights.items() if name.startswith(part + ".")}
        load_exactly(cast(nn.Module, getattr(model, part)), inside, f"the {part}")


def seeded(model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """`model()` with its random weights drawn from `seed`, the global generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model()


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict of the same names and shapes, BatchNorm's batch counters aside."""
    own = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    wrong = [f"missing {k}" for k in own if k not in given]
    wrong += [f"unexpected {k}" for k in given if k not in own]
    wrong += [
        f"{k} is {tuple(given[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in given and given[k].shape != own[k].shape
    ]
    if wrong:
        raise ValueError(f"the weights do not fit {what} ({len(wrong)} mismatches): {'; '.join(wrong[:5])}")
    nn.Module.load_state_dict(module, dict(given), strict=False)  # encoders have methods of their own, less strict


def freeze(module: nn.Module) -> None:
    """No gradients and evaluation mode: BatchNorm statistics stay fixed too."""
    module.requires_grad_(False)
    module.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a PyTorch state dict (loaded with `weights_only`).

    A state dict under "state_dict" or "model" is found too.  FileNotFoundError or ValueError in one sentence.
    """
    path = _existing(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything, without a message too
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a file of weights ({reason}): give a .safetensors or .pth file") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ValueError(f"{path} holds no state dict of tensors: save model.state_dict()")
    return loaded


def _existing(path: Path) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: give a .safetensors or .pth file")
    return Path(path)


def weights_file(path: Path, backbone: str) -> Path:
    """A backbone's file: `path` itself, or in a folder <backbone>.safetensors or .pth; FileNotFoundError without it."""
    if not path.is_dir():
        return _existing(path)
    found = [path / f"{backbone}{suffix}" for suffix in (".safetensors", ".pth")]
    if there := [each for each in found if each.is_file()]:
        return there[0]
    raise FileNotFoundError(f"{path} holds no weights of {backbone}: put them there as {found[0].name} or .pth")


def file_digest(path: Path) -> str:
    """A short checksum that names the file in a run's identity."""
    return _digest(_existing(path), path.stat().st_mtime_ns)


@lru_cache
def hub_weights(backbone: str) -> str:
    """The name of the file of ImageNet weights that the hub gives for a backbone; empty where it is not known.

    timm's repository with the tag of the training, or that of segmentation-models-pytorch with its revision.
    """
    import segmentation_models_pytorch as smp
    import timm

    if backbone == LITE0:
        return f"{lite0.PACKAGE}=={lite0.VERSION}"
    if backbone == "efficientnet-b0" or backbone.startswith(UNIVERSAL):
        name = "efficientnet_b0" if backbone == "efficientnet-b0" else backbone.removeprefix(UNIVERSAL)
        with contextlib.suppress(RuntimeError):  # of a name that timm does not know, which is told elsewhere
            known: Any = timm.get_pretrained_cfg(name)
            return str(known.hf_hub_id or known.url or "") if known else ""
        return ""
    registered: Any = smp.encoders.encoders.get(backbone, {})
    file = registered.get("pretrained_settings", {}).get("imagenet", {})
    return f"{file['repo_id']}@{file['revision'][:12]}" if file else ""


@lru_cache
def _digest(path: Path, changed: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def imagenet_encoder(backbone: str, path: Path | None = None) -> dict[str, Tensor]:
    """ImageNet weights of a backbone, named as our encoder names them and prefixed `encoder.`.

    From `path`, a file as torchvision, timm or segmentation-models-pytorch save it or a folder of such files
    (`weights_file`), else from the package that carries them (`tatl.models.lite0`) or from the caches or hubs of timm
    and segmentation-models-pytorch.  Of a file the classifier (CLASSIFIERS) is left out.  ValueError where the rest is
    not that backbone's; RuntimeError says what to install, or how to give a file where there is no network.
    """
    if path is None and backbone == LITE0:
        path = lite0.packaged_weights()
    if path is None:
        return {f"encoder.{k}": v for k, v in _from_hub(backbone).items()}
    path = weights_file(path, backbone)
    model, weights = seeded(lambda: encoder(backbone), 0), read_weights(path)
    try:
        _take_in(model, {k: v for k, v in weights.items() if not k.startswith(CLASSIFIERS)}, backbone)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; give a file of {backbone} as torchvision, timm or segmentation-models-pytorch save it"
        ) from error
    return {f"encoder.{k}": v for k, v in model.state_dict().items()}


def _take_in(model: nn.Module, weights: dict[str, Tensor], backbone: str) -> None:
    """Load a library's weights into our encoder, under its names; any mismatch raises ValueError."""
    if not isinstance(model, SmpEncoder):
        weights = {_timm_name(lite0.timm_name(k)): v for k, v in weights.items()}
        if backbone == LITE0:
            weights = {k: v for k, v in weights.items() if not k.startswith(AFTER)}
        load_exactly(model, weights, f"the encoder {backbone}")
        return
    if backbone.startswith(UNIVERSAL):
        weights = {f"model.{k.removeprefix('model.')}": v for k, v in weights.items() if not k.startswith(AFTER)}
    with contextlib.suppress(RuntimeError):  # its own method gives the names of old files (DenseNet's) anew, in place
        model.encoder.load_state_dict(weights)
    load_exactly(model.encoder, weights, f"the encoder {backbone}")


def _from_hub(backbone: str) -> dict[str, Tensor]:
    try:
        if backbone == "efficientnet-b0":
            import timm

            state = timm.create_model("efficientnet_b0", pretrained=True).state_dict()
            return {k: v for k, v in state.items() if not k.startswith(CLASSIFIERS)}
        import segmentation_models_pytorch as smp

        state = smp.encoders.get_encoder(backbone, weights="imagenet").state_dict()
        return {f"encoder.{k}": v for k, v in state.items()}
    except Exception as error:  # the hub's client raises a dozen kinds when there is no network
        raise RuntimeError(
            f"the ImageNet weights of {backbone} are not in the cache and could not be downloaded "
            f"({type(error).__name__}): give a local file with --imagenet-weights FILE ({backbone} as torchvision, "
            "timm or segmentation-models-pytorch save it, .safetensors or .pth), or use --source textures or random"
        ) from error


# torchvision's MBConv is a list of layers: with expansion (0 expand, 1 depthwise, 2 squeeze, 3 project), without it
# (0 depthwise, 1 squeeze, 2 project), as in its first stage.  Each convolution's norm is the layer's item 1.
_EXPANDED = {"0": ("conv_pw", "bn1"), "1": ("conv_dw", "bn2"), "2": ("se", "se"), "3": ("conv_pwl", "bn3")}
_PLAIN = {"0": ("conv_dw", "bn1"), "1": ("se", "se"), "2": ("conv_pw", "bn2")}
_SQUEEZE = {"fc1": "conv_reduce", "fc2": "conv_expand"}


def _timm_name(name: str) -> str:
    """timm's name of a torchvision EfficientNet tensor; unknown names are returned as they are (and refused later)."""
    if match := re.fullmatch(r"features\.(0|8)\.([01])\.(.+)", name):
        stem, item, rest = match.groups()
        return {"0": ("conv_stem", "bn1"), "8": ("conv_head", "bn2")}[stem][int(item)] + f".{rest}"
    match = re.fullmatch(r"features\.([1-7])\.(\d+)\.block\.(\d)\.(\w+)\.(.+)", name)
    if match is None:
        return name
    stage, block, layer, item, rest = match.groups()
    parts = (_PLAIN if stage == "1" else _EXPANDED).get(layer)
    if parts is None:
        return name
    inner = f"se.{_SQUEEZE.get(item, item)}" if parts[0] == "se" else parts[int(item)]
    return f"blocks.{int(stage) - 1}.{block}.{inner}.{rest}"
