"""How a network may start, and the one function that copies weights.

A start names the parts that are copied; from which run, `tatl.studies.planner` decides.  What is skipped is declared,
and any other mismatch raises.  ImageNet weights are read in `tatl.models.imagenet`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # a plan asks for the rules alone
    from torch import Tensor, nn

ENCODER = ("encoder",)
EVERYTHING = ("encoder", "decoder", "head")


@dataclass(frozen=True)
class StartRule:
    """What a start copies (`parts`), and whether the encoder then stays fixed.

    `long`: its targets train for the epochs of Stage 2 and Stage 3 together.
    """

    parts: tuple[str, ...]
    frozen: bool = False
    long: bool = False


START_RULES = {
    "random": StartRule(()),
    "source": StartRule(ENCODER),
    "rotation": StartRule(ENCODER),  # from telling quarter turns apart by every level
    "context": StartRule(("encoder", "decoder")),  # from putting swapped patches back
    "tatl": StartRule(EVERYTHING),  # from the agnostic network (Stage 2)
    "tatl-freeze": StartRule(EVERYTHING, frozen=True),
    # Controls that the paper does not have: is it the union, all attributes, any mask, more steps?
    "multilabel": StartRule(("encoder", "decoder")),  # from one network of all attributes, an output each
    "lesion": StartRule(EVERYTHING),  # from finding the lesion instead of the union
    "shuffled-union": StartRule(EVERYTHING),  # from the union masks of other images
    "source-long": StartRule(ENCODER, long=True),  # as source, for as many steps as Stage 2 and 3 together
    "frozen-random": StartRule((), frozen=True),
}


def start_rule(name: str) -> StartRule:
    """The start called so; ValueError lists the known ones."""
    if name not in START_RULES:
        raise ValueError(f"start {name!r} is unknown: choose one of {', '.join(START_RULES)}")
    return START_RULES[name]


def transfer(model: nn.Module, weights: Mapping[str, Tensor], parts: Sequence[str]) -> None:
    """Copy the `parts` (top-level modules) of `weights` into the model; all other weights stay as they are.

    Raises ValueError with the first names that are missing, left over or of another shape.
    """
    for part in parts:
        inside = {name[len(part) + 1 :]: value for name, value in weights.items() if name.startswith(part + ".")}
        load_exactly(cast("nn.Module", getattr(model, part)), inside, f"the {part}")


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict of the same names and shapes, BatchNorm's batch counters aside."""
    own, given = (
        {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
        for state in (module.state_dict(), weights)
    )
    wrong = [f"missing {name}" for name in own if name not in given]
    wrong += [f"unexpected {name}" for name in given if name not in own]
    both = [name for name in own if name in given]
    wrong += [f"{name} is {given[name]}, expected {own[name]}" for name in both if given[name] != own[name]]
    if wrong:
        raise ValueError(f"the weights do not fit {what} ({len(wrong)} mismatches): {'; '.join(wrong[:5])}")
    from torch import nn

    # Encoders have methods of their own, less strict.
    nn.Module.load_state_dict(module, {name: weights[name] for name in own}, strict=False)


def seeded(model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """`model()` with its random weights drawn from `seed`, the global generator left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model()


def freeze(module: nn.Module) -> None:
    """No gradients and evaluation mode: BatchNorm statistics stay fixed too."""
    module.requires_grad_(False)
    module.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a PyTorch state dict (loaded with `weights_only`).

    A state dict under "state_dict" or "model" is found too.  FileNotFoundError or ValueError in one sentence.
    """
    import torch
    from safetensors.torch import load_file

    path = existing_weights(path)
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
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise ValueError(f"{path} holds no state dict of tensors: save model.state_dict()")
    return loaded


def existing_weights(path: Path) -> Path:
    """The path; FileNotFoundError where there is no file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: give a .safetensors or .pth file")
    return Path(path)
