"""Networks as one ONNX graph: frames, and the boxes that cut them, to the mean probabilities of every mask.

    frames uint8 [B, H, W, 3], boxes int64 [B, 4]  ->  probability_<mask> float32 [B, 1, H, W], in the box

B, H and W may be any.  PyTorch's exporter takes half a minute a network, so each architecture is exported once, with
its weights as inputs that have their own names, and the networks of an ensemble are copies of it with their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tatl.data.batches import MEAN, STD
from tatl.models import Segmenter
from tatl.run import Run

MOST_BYTES = 1.9e9  # of weights in one file: protocol buffers end at 2 GiB, beyond it they lie in a file of their own
FRAMES, BOXES = "frames", "boxes"
Graph = Any  # onnx.ModelProto, of a library that need not be there


class FromFrames(nn.Module):
    """A network from frames, cut to boxes, to probabilities; traced, so that nothing depends on a size in Python."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, boxes: Tensor | None = None) -> Tensor:
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
        images = (frames.permute(0, 3, 1, 2).float() - mean) / std
        height, width = images.shape[-2:]
        if boxes is not None:
            images = _cut(images, boxes)
        rows = torch.arange(height + -height % self.model.stride).clamp(max=height - 1)
        columns = torch.arange(width + -width % self.model.stride).clamp(max=width - 1)
        padded = images[:, :, rows][..., columns]
        return torch.sigmoid(self.model.logits(padded, self.model.encoder(padded))[..., :height, :width])


def _cut(images: Tensor, boxes: Tensor) -> Tensor:
    """`tatl.data.crop.cut` at the images' own size, in operations that ONNX has."""
    height, width = images.shape[-2:]
    edges = 2 * boxes.float() / torch.tensor([height, width, height, width]) - 1
    top, left, bottom, right = (edge[:, None] for edge in edges.unbind(1))
    rows = top + (bottom - top) * ((torch.arange(height) + 0.5) / height)
    columns = left + (right - left) * ((torch.arange(width) + 0.5) / width)
    grid = torch.stack([columns[:, None].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)], dim=-1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def joined(networks: Mapping[str, Sequence[Segmenter]], runs: Mapping[str, Sequence[Run]], crop: bool) -> Graph:
    """The graph of all networks; `runs` says of each what it is, and with `crop` boxes are an input.

    Raises ValueError for a network of operations that ONNX lacks.
    """
    from onnx import compose, helper

    known: dict[tuple[str, str], Graph] = {}
    whole, nodes, outputs = None, [], []
    for mask, models in networks.items():
        found = []
        for number, (model, run) in enumerate(zip(models, runs[mask], strict=True)):
            kind = (run.shape, run.backbone)
            if kind not in known:
                known[kind] = _exported(model, crop, f"{run.shape} on {run.backbone}")
            one = _with_weights(known[kind], FromFrames(model).state_dict())
            one = compose.add_prefix(one, f"{mask}/{number}/", rename_inputs=False)
            found.append(one.graph.output[0].name)
            if whole is None:
                whole, output = one, one.graph.output[0]
            else:
                whole.graph.node.extend(one.graph.node)
                whole.graph.initializer.extend(one.graph.initializer)
        nodes.append(helper.make_node("Mean", found, [f"probability_{mask}"], f"mean of {mask}"))
        outputs.append(type(output)(name=f"probability_{mask}", type=output.type))
    assert whole is not None
    whole.graph.node.extend(nodes)
    del whole.graph.output[:]
    whole.graph.output.extend(outputs)
    return whole


def _exported(model: Segmenter, crop: bool, title: str) -> Graph:
    """A network's graph, each weight under its own name, without what tells where the code lies."""
    frames, boxes = torch.zeros(2, 64, 96, 3, dtype=torch.uint8), torch.tensor([[3, 5, 60, 90], [0, 0, 64, 96]])
    sizes = {0: "images", 1: "height", 2: "width"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter about itself
            program = torch.onnx.export(
                FromFrames(model).eval(), (frames, boxes) if crop else (frames,),
                input_names=[FRAMES, BOXES] if crop else [FRAMES], output_names=["probability"],
                dynamic_shapes=(sizes, {0: "images"}) if crop else (sizes,), optimize=False, verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{title} cannot be written as ONNX ({reason}): choose others with --where") from error
    assert program is not None
    made = program.model_proto
    del made.graph.value_info[:]
    for described in (*made.graph.node, *made.graph.initializer, *made.graph.input, *made.graph.output, made.graph):
        del described.metadata_props[:]
    return made


def _with_weights(graph: Graph, weights: Mapping[str, Tensor]) -> Graph:
    """A copy of a graph with the weights of another network of its architecture."""
    from onnx import numpy_helper

    copy = type(graph)()
    copy.CopyFrom(graph)
    wanted = {name for name in weights if not name.endswith("num_batches_tracked")}
    assert wanted <= {each.name for each in copy.graph.initializer}, "the exporter has renamed weights"
    for each in copy.graph.initializer:
        if each.name in wanted:
            each.CopyFrom(numpy_helper.from_array(weights[each.name].numpy(), each.name))
    return copy


def save_graph(graph: Graph, path: Path) -> None:
    """Write a graph, its weights beside it as `<name>.data` where one file cannot hold them."""
    import onnx

    large = sum(len(each.raw_data) for each in graph.graph.initializer) > MOST_BYTES
    onnx.save_model(graph, path, save_as_external_data=large, location=f"{path.name}.data")
