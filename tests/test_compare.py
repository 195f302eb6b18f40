"""What stops a study before any training."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from tatl.__main__ import main
from tatl.data.store import Store
from tatl.models import build
from tatl.models.imagenet import file_digest
from tatl.run import Run
from tatl.studies.catalogue import STUDIES, Asked
from tatl.studies.conduct import check_runs, check_sources, note_runs, report_of
from tatl.studies.planner import WHOLE, Planner
from tatl.studies.settings import Settings
from tatl.studies.write import planner_notes
from tatl.training.trainer import save_weights
from toy import make_store, toy_run


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence by which a command refuses; nothing is trained."""
    assert main(words) == 2 and not Path("runs").exists()
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert said.startswith("error: ")
    return said


SMOKE = ["--preset", "smoke", "--store"]


@pytest.mark.parametrize("plan", [[], ["--plan"]])
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["study", "backbones", "--backbones", "b0"],
            "backbone 'b0' is unknown: choose one of efficientnet-lite0, resnet18",
        ),
        (["study", "variants", "--shapes", "v"], "shapes v unknown: choose of u, link, attention-u, attention-link"),
        (["study", "paradigms", "--variants", "warm"], "variant warm unknown: choose of tatl, tatl-freeze, source"),
        (["study", "variants", "--variants", "stage3", "--freeze-encoder"], "stage3 has no Stage 2"),
        (["study", "paradigms", "--freeze-encoder"], "freeze_encoder is of the study variants: in paradigms the rows"),
        (["study", "paradigms", "--shapes", "attention-u"], "shape 'attention-attention-u' is unknown: choose one of"),
        (["study", "backbones", "--backbone", "resnet18"], "backbone resnet18 is what the rows of backbones differ in"),
        (["study", "data-size", "--fraction", "0.5"], "what the rows of data-size differ in: give --fractions"),
        (["study", "crop", "--offset", "2"], "what the rows of crop differ in: give --offsets"),
        (["study", "crop", "--lesion-network", "segnet"], "what the rows of crop differ in: give --networks"),
        (["study", "variants", "--variants", "isic2018-winner", "--freeze-encoder"], "isic2018-winner has no Stage 2"),
        (["study", "paradigms", "--fraction", "0.01"], "no training image of store 'toy' has any of disc, bar, dot"),
        (["study", "variants", "--offset", "32"], "offset 32 is larger than the images of 32x64: give smaller"),
        (["study", "crop", "--offsets", "0,32"], "offset 32 is larger than the images of 32x64: give smaller"),
        (
            ["study", "crop", "--offsets", "0", "--networks", "yolo"],
            "lesion network yolo unknown: choose of u, unet, segnet, mask-rcnn",
        ),
        (
            ["study", "data-size", "--fractions", "100,10"],
            "10% of the training groups of fold 0 leave no image",
        ),
        (["study", "data-size", "--fractions", "0"], "fractions '0' are percentages of the training groups such as"),
    ],
)
def test_a_study_is_refused_before_training(
    words: list[str],
    error: str,
    plan: list[str],
    toy_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert error in refused([*words, *plan, *SMOKE, str(toy_store.path)], capsys)


def test_a_study_that_is_unknown_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["study", "everything", "--preset", "smoke"])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and all(repr(name) in said for name in STUDIES) and "everything" in said


@pytest.mark.parametrize("study", ["paradigms", "backbones", "convergence", "data-size"])
def test_a_store_with_unknown_attributes_has_no_union(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "parts", unknown=("bar",))
    said = refused(["study", study, *SMOKE, "parts"], capsys)
    assert f"the study {study} needs union masks, unknown in all 24 images of store 'parts'" in said


def test_where_an_attribute_is_unknown_crop_says_that_it_measures_lesions_alone(tmp_path: Path) -> None:
    planner = Planner(Settings(source="random", n_folds=3), make_store(tmp_path / "parts", unknown=("bar",)))
    assert {member.attribute for member in STUDIES["crop"].members(planner, Asked(networks="u", offsets="0"))} == {
        "lesion"
    }
    assert "bar unknown in all images; the lesion's Dice alone is measured" in planner_notes(planner)


def test_a_store_without_lesions_has_no_crop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "idrid", lesions=False)
    said = refused(["study", "crop", "--offsets", "0", *SMOKE, "idrid"], capsys)
    assert "the study crop needs lesion masks, unknown in all 24 images of store 'idrid'" in said
    assert "choose a store with lesion masks" in said


@pytest.mark.parametrize("command", [["study", "variants"], ["train", "--variant", "stage3"]])
def test_a_plan_writes_nothing_not_even_a_store(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--preset", "smoke", "--plan"]) == 0 and not list(tmp_path.iterdir())
    said = capsys.readouterr().out
    assert "0 are there" in said and "\n  to do  streaks link random (random) whole fold 0 seed 0" in said


@pytest.mark.parametrize("command", [["study", "variants", "--variants", "stage3"], ["train", "--variant", "stage3"]])
def test_weights_that_no_hub_gives_stop_it_before_training(
    command: list[str],
    toy_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **given: bool) -> torch.nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(name, **given)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timm, "create_model", offline)
    said = refused(
        [*command, "--source", "imagenet", "--backbone", "efficientnet-b0", *SMOKE, str(toy_store.path)], capsys
    )
    assert "the ImageNet weights of efficientnet-b0 are not cached and could not be downloaded (OSError)" in said
    assert "give a local file with --imagenet-weights FILE" in said and "--source textures or random" in said


def imagenet_runs(store: Store, *backbones: str) -> list[Run]:
    return [toy_run(store, "disc", backbone=name, start="source", source="imagenet") for name in backbones]


def test_a_file_of_weights_is_one_backbone_s(toy_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(build("link", "resnet18").encoder.encoder.state_dict(), path)
    check_sources(imagenet_runs(toy_store, "resnet18"), tmp_path, path)
    with pytest.raises(ValueError, match=r"do not fit the encoder resnet34 .*; give a file of resnet34 as torchvision"):
        check_sources(imagenet_runs(toy_store, "resnet34"), tmp_path, path)
    with pytest.raises(
        ValueError, match="weights of one backbone and those of resnet18, resnet34 are needed: give a folder"
    ):
        check_sources(imagenet_runs(toy_store, "resnet18", "resnet34"), tmp_path, path)


def test_a_folder_of_weights_has_a_file_per_backbone(toy_store: Store, tmp_path: Path) -> None:
    for name in ("resnet18", "resnet34"):
        torch.save(build("link", name).encoder.encoder.state_dict(), tmp_path / f"{name}.pth")
    check_sources(imagenet_runs(toy_store, "resnet18", "resnet34"), tmp_path, tmp_path)
    settings = Settings(source="imagenet", n_folds=3, backbone="resnet18")
    planner = Planner(settings, toy_store, tmp_path)
    runs = [each.started("source", WHOLE, "disc", "link", 0, 0) for each in (planner, planner.but(backbone="resnet34"))]
    assert runs[0].weights == file_digest(tmp_path / "resnet18.pth") != runs[1].weights
    with pytest.raises(FileNotFoundError, match=r"holds no weights of vgg16: put them there as vgg16.safetens"):
        planner.but(backbone="vgg16").started("source", WHOLE, "disc", "link", 0, 0)
    with pytest.raises(
        FileNotFoundError, match=r"no ImageNet weights at .*absent: give a .safetensors or .pth file, or"
    ):
        Planner(settings, toy_store, tmp_path / "absent")


def test_what_is_trained_needs_no_weights(toy_store: Store, tmp_path: Path) -> None:
    (run,) = imagenet_runs(toy_store, "resnet18")
    run.folder(tmp_path).mkdir(parents=True)
    save_weights({}, run.folder(tmp_path) / "weights.safetensors")
    check_sources([run], tmp_path, tmp_path / "nowhere.pth")


def test_rivals_have_backbones_of_their_own(toy_store: Store) -> None:
    check_runs([toy_run(toy_store, "lesion", shape="unet", backbone="plain")])


def test_the_report_of_a_study_is_named_as_its_notebook() -> None:
    folder = Path("reports/quick/tables")
    assert report_of("data-size", folder) == f"python -m analysis.report --study data_size --tables {folder}"


def test_another_backbone_than_the_runs_so_far_is_said(
    toy_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, asked = toy_run(toy_store, "disc"), toy_run(toy_store, "disc", backbone="resnet18")
    folder = there.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(there.dumps())
    save_weights({}, folder / "weights.safetensors")
    note_runs([there], tmp_path)
    assert not capsys.readouterr().out
    note_runs([asked], tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("note: ") and there.backbone in said and "resnet18: give --backbone" in said


@pytest.mark.parametrize(
    ("words", "now"),
    [
        (["study", "--preset", "smoke", "bound", "--plan"], "python -m analysis.bound"),
        (["study", "variants", "--devices=2"], "--workers"),
        (["train", "--variant", "stage3", "--devices", "2"], "--workers"),
    ],
)
def test_what_there_was_once_is_told_what_it_is_now(
    words: list[str], now: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert now in refused(words, capsys)
