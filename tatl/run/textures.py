"""The run that tells drawn textures apart: the `textures` source domain, an offline stand-in for ImageNet."""

from __future__ import annotations

from tatl.names import B0, TEXTURES
from tatl.run import Run
from tatl.run.recipe import Recipe

TEXTURE_RECIPE = Recipe(epochs=5, patience=5, batch=32, optimizer="adamw", lr=0.003, weight_decay=0.01, balance=0.0)
DRAWN, HELD = 1680, 240  # pictures to train on, and to stop early by


def texture_run(backbone: str = B0, recipe: Recipe = TEXTURE_RECIPE) -> Run:
    """The run that makes the `textures` weights of a backbone; one for all stores and seeds, as ImageNet is."""
    return Run(TEXTURES, "", "48x48", TEXTURES, "encoder", backbone, "random", "random", n_folds=1, recipe=recipe)
