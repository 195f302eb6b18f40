"""What the commands do that use trained networks: predict, score and export."""

from __future__ import annotations

from pathlib import Path

from tatl.data.images.reading import Reading
from tatl.studies.settings import Chosen


def predict_command(
    chosen: Chosen,
    reading: Reading,
    images: list[Path],
    out: Path = Path("predictions"),
    truth: Path | None = None,
    device: str = "auto",
    in_sample: bool = False,
) -> None:
    """Segment images with trained networks, in their original size; images of the store with those that never saw them.

    Example: python -m tatl predict ISIC_0000001.jpg --runs runs --variant stage123 --out predictions

    Args:
        images: pictures to segment
        out: folder for masks, probability maps, panels (_overlay.png) and outlines at the image's own size
            (_outlines.png) by ISIC's file names, and boxes.csv, which grows
        truth: folder of true masks (ISIC file names), drawn in green under the red predictions
        device: auto, cpu or cuda
        in_sample: of images of the store that all networks were trained on, use these all the same
    """
    from tatl.prediction.predict import predict_images
    from tatl.studies.places import command_line

    predict_images(images, out, chosen, truth, device, reading, in_sample)
    print(f"masks, probability maps and overlays are in {out}")
    print(f"next: {command_line('score', {'predictions': out, 'truth': truth or 'TRUTH'})} --only-predicted")


def score_command(
    reading: Reading,
    predictions: Path,
    truth: Path,
    out: Path = Path("scores.csv"),
    only_predicted: bool = False,
) -> None:
    """Score a folder of ISIC-named masks against another, by the official definition.

    Example: python -m tatl score --predictions predictions --truth ISIC2018_Task2_Training_GroundTruth_v3

    Args:
        predictions: folder of <id>_attribute_<name>.png; <id>_segmentation.png (the lesion) and <id>_union.png, where
            they are, are scored beside the attributes, which alone are averaged
        truth: folder of the same names; the true union is the OR of an image's true attributes
        out: CSV of the summary; per-image fractions go beside it as *_images.csv
        only_predicted: leave out true masks of images and attributes without any prediction, instead of refusing
    """
    from tatl.data.store import write_csv
    from tatl.prediction.score import score_folders
    from tatl.studies.places import command_line

    if out.is_dir():
        raise ValueError(f"{out} is a folder: give --out the file for the scores, such as {out / 'scores.csv'}")
    table, per_image = score_folders(predictions, truth, only_predicted, reading)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_csv(table, out)
    write_csv(per_image, images := out.with_name(out.stem + "_images.csv"))
    print(table.to_string(index=False, float_format="%.4f"))
    print(f"scores are in {out}, per image in {images}")
    again = command_line("predict IMAGE", {"truth": truth, "out": predictions})
    print(f"next: {again} draws the truth beside the masks")


def export_command(chosen: Chosen, out: Path = Path("model.onnx")) -> None:
    """Write the networks of a variant as ONNX, to run without this package; examples/onnx shows how.

    Example: python -m tatl export --variant stage123 --runs runs --out model.onnx

    Args:
        out: file to write, with all networks that see the same; beside it model.json says what goes in and comes out,
            and with Stage 1 model-lesion.onnx finds the box that model.onnx is given
    """
    from tatl.prediction.export import export_networks

    export_networks(out, chosen)
    print("next: python examples/onnx/segment.py IMAGE --model", out.with_suffix(".json"))
