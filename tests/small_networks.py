"""Networks small enough for a dense Hessian, with what real ones have: groups, SiLU, BatchNorm, an unused part."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


def image_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """A smooth loss per image: [B]."""
    return F.binary_cross_entropy_with_logits(logits, masks, reduction="none").flatten(1).mean(1)


class Unused(nn.Module):
    """A network with a layer that does not enter its output."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Conv2d(3, 1, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def networks() -> dict[str, nn.Module]:
    """One of each kind, float64, weights drawn from a fixed seed; BatchNorm has seen data."""
    torch.manual_seed(0)
    made = {
        "conv": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 1)),
        "silu": nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2)),
        "grouped": nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.SiLU(),
            nn.Conv2d(8, 1, (3, 1), padding=(1, 0), dilation=1),
        ),
        "norm": nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(0.5),
            nn.Conv2d(4, 1, 3, padding="same"),
        ),
    }  # fmt: skip
    made["silu"].append(nn.Conv2d(4, 1, 1))
    for name in made:
        made[name] = made[name].double()
    made["norm"](torch.randn(8, 3, 8, 8, dtype=torch.float64))
    return made


def example(seed: int = 0) -> tuple[Tensor, Tensor]:
    """One image [1, 3, 8, 8] and one mask [1, 1, 8, 8], float64."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 3, 8, 8, generator=draw, dtype=torch.float64)
    mask = (torch.rand(1, 1, 8, 8, generator=draw) > 0.7).double()
    return image, mask


def dense_hessian(model: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    """The whole Hessian [n, n] of the mean loss in evaluation mode, by PyTorch's own double backward."""
    training = model.training
    model.eval()
    weights = {k: p.detach() for k, p in model.named_parameters()}
    sizes = [w.numel() for w in weights.values()]

    def loss(flat: Tensor) -> Tensor:
        pieces = {k: v.view(w.shape) for (k, w), v in zip(weights.items(), flat.split(sizes), strict=True)}
        return image_loss(functional_call(model, pieces, (image,)), mask).mean()

    flat = torch.cat([w.reshape(-1) for w in weights.values()])
    matrix = torch.autograd.functional.hessian(loss, flat)
    model.train(training)
    return matrix
