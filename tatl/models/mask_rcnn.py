"""Mask R-CNN (He et al. 2017) as a segmenter: every connected region of a mask is an object to find.

    p(pixel) = max of the mask probabilities there, over detections with score > 0.5;   logit = log p / (1 - p)

torchvision's `maskrcnn_resnet50_fpn` of two classes, background and region, trained by its own five losses.  Images
are taken at their own size, where torchvision would resize them to 800 pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, cast

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from tatl.models.encoders import STRIDE, SmpEncoder
from tatl.models.segmenter import Segmenter, pad

Detections = dict[str, Tensor]

SCORE = 0.5  # a detection counts where a region is likelier than background
EPSILON = 1e-6  # probabilities stay this far from 0 and 1, so that logits are finite
# A skin image holds a lesion or a few, not COCO's dozens: fewer boxes pass the heads, which take most of the time.
SAMPLES = 32  # per image in training: 512 in torchvision
PROPOSALS = 200  # per image in evaluation: 1000 in torchvision


class MaskRCNN(Segmenter):
    """Image [B, 3, H, W] to logits [B, 1, H, W], in training mode too; `training_loss` trains it.

    The encoder is ResNet-50, the decoder its feature pyramid, the head finds boxes and masks.  Raises ValueError for
    more than one class.
    """

    def __init__(self, classes: int = 1) -> None:
        if classes != 1:
            raise ValueError(f"mask-rcnn finds the regions of one mask: build it with classes=1 instead of {classes}")
        whole = maskrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=2,
            box_score_thresh=SCORE,
            box_batch_size_per_image=SAMPLES,
            rpn_post_nms_top_n_test=PROPOSALS,
        )
        # torchvision draws these by the number of outputs, which is 2 here: mask logits would start near +-16 and the
        # loss at 7, and training at the paper's rate of 0.01 ends in infinity.
        nn.init.normal_(whole.roi_heads.mask_predictor.mask_fcn_logits.weight, std=0.001)
        head = nn.ModuleDict({"boxes": whole.rpn, "masks": whole.roi_heads})
        super().__init__(SmpEncoder("resnet50"), whole.backbone.fpn, head)

    def logits(self, image: Tensor, features: list[Tensor]) -> Tensor:
        found, _ = self.find(image, features)
        return torch.stack([torch.logit(probability(f, image), EPSILON) for f in found])

    def training_loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """The sum of the five losses for images [B, 3, H, W] and masks [B, 1, H, W], with any number of regions."""
        targets = [regions(mask) for mask in pad(masks.float(), STRIDE)[:, 0]]
        _, losses = self.find(pad(images, STRIDE), self.features(images), targets)
        return torch.stack(list(losses.values())).sum()

    def find(
        self, image: Tensor, features: list[Tensor], targets: list[Detections] | None = None
    ) -> tuple[list[Detections], Detections]:
        """Detections per image, whose features are the encoder's; with `targets`, losses by name instead.

        The mode of the heads only says which of the two they return: they have neither norms nor dropout.
        """
        pyramid = self.decoder(OrderedDict((str(level), m) for level, m in enumerate(features[1:])))
        # Boxes are coordinates: in bf16 they would be rounded to multiples of two pixels.
        pyramid = OrderedDict((level, m.float()) for level, m in pyramid.items())
        frames = ImageList(image, [cast(tuple[int, int], tuple(image.shape[-2:]))] * len(image))
        head, mode = cast(Any, self.head), self.head.training
        head.train(targets is not None)
        try:
            with torch.autocast(image.device.type, enabled=False):
                proposals, box_losses = head["boxes"](frames, pyramid, targets)
                found, losses = head["masks"](pyramid, proposals, frames.image_sizes, targets)
        finally:
            head.train(mode)
        return found, {**box_losses, **losses}


def probability(found: Detections, image: Tensor) -> Tensor:
    """The detections' masks pasted into the frame of `image` [..., H, W], the largest at each pixel: [1, H, W]."""
    size = cast(tuple[int, int], tuple(image.shape[-2:]))
    masks = paste_masks_in_image(found["masks"], found["boxes"], size)
    return masks.amax(0) if len(masks) else masks.new_zeros(1, *size)


def regions(mask: Tensor) -> Detections:
    """The 8-connected regions of a mask [H, W]: boxes [N, 4] (x and y, last exclusive), labels [N], masks [N, H, W].

    N may be 0; a region of one pixel has a box of one pixel.
    """
    numbered, count = ndimage.label(mask.cpu().numpy() > 0.5, structure=np.ones((3, 3), int))
    corners = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(numbered)]
    numbers = torch.arange(1, count + 1, device=mask.device)
    return {
        "boxes": torch.tensor(corners, dtype=torch.float32, device=mask.device).reshape(-1, 4),
        "labels": torch.ones_like(numbers),
        "masks": (torch.from_numpy(numbered).to(mask.device) == numbers[:, None, None]).to(torch.uint8),
    }
