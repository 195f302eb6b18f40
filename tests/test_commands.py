"""The command line: help, wrong input in one sentence, and the whole way from nothing to tables on a toy."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tatl import cli
from tatl.__main__ import build_parser, main
from tatl.data.store import Store
from toy import SMALL, Toy


@pytest.mark.parametrize("command", [[], ["prepare"], ["train"], ["study"], ["predict"], ["score"], ["export"]])
def test_help_is_there_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: python -m tatl" in shown
    assert not command or f"python -m tatl {command[0]}" in " ".join(shown.split("Example:")[1].split())


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study", "variants", "--preset", "nope"], "preset 'nope' is unknown: choose one of"),
        (["study", "variants", "--store", "nowhere"], "there is no store at nowhere"),
        (["prepare", "--data", "manifest", "--store", "s"], "needs --root"),
        (["prepare", "--data", "phantom", "--store", "s", "--size", "big"], "is not HEIGHTxWIDTH"),
        (["predict", "a.jpg", "--runs", "nowhere"], "no finished runs of stage123"),
        (["score", "--predictions", "nowhere", "--truth", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_a_wrong_input_is_one_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and words in said[0]


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        (["--freeze-encoder"], True),
        (["--freeze_encoder"], True),
        (["--freeze-encoder=false"], False),
        (["--freeze-encoder", "true"], True),
        (["--freeze-encoder", "False"], False),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_bare_flag_takes_no_word_after_it(
    flag: list[str], value: bool, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, bool]] = []
    monkeypatch.setattr("tatl.__main__.call", lambda _, asked: given.append((asked.name, asked.freeze_encoder)))
    assert main(["study", *flag, "variants"] if first else ["study", "variants", *flag]) == 0
    assert given == [("variants", value)]


@pytest.mark.parametrize(
    ("arguments", "resumes"),
    [
        (["prepare", "--data", "phantom", "--store", "s"], True),
        (["train", "--variant", "stage3"], True),
        (["study", "variants"], True),
        (["predict", "a.jpg"], False),
        (["score", "--predictions", "p", "--truth", "y"], False),
    ],
)
def test_only_what_goes_on_says_so_when_stopped(
    arguments: list[str], resumes: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tatl.__main__.call", stop)
    assert main(arguments) == 130
    said = capsys.readouterr().err.strip()
    assert said == ("stopped: the same command goes on from here" if resumes else "stopped")


def test_who_reads_may_have_seen_enough() -> None:
    code = "from tatl import cli; import sys; sys.exit(cli.run(lambda: print('a line\\n' * 10**5)))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 3 GiB"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("can't start new thread"),
        ImportError("libtorch.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_ran_out_is_said(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    assert cli.run(fail) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: memory ran out") and str(error) in said and "give --workers 1" in said


def test_a_module_that_is_missing_is_no_want_of_memory() -> None:
    def fail() -> None:
        raise ImportError("no module named tomorrow")

    with pytest.raises(ImportError, match="tomorrow"):
        cli.run(fail)


def test_no_encoding_of_a_terminal_fails_what_is_done(tmp_path: Path) -> None:
    words = ["-m", "tatl", "prepare", "--data", "phantom", "--cases", "4", "--size", "24x32", "--store"]
    given = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "PYTHONIOENCODING": "latin-1"}
    said = subprocess.check_output([sys.executable, *words, tmp_path / "\u0161"], env=given)
    assert rb"\u0161: 4 cases of 24x32" in said and len(Store.open(tmp_path / "\u0161")) == 4


def test_an_attribute_that_no_image_has_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(every=(2, 0, 0), unknown=("dot",))
    monkeypatch.setattr("tatl.data.readers.reader", lambda *given, **options: toy)
    assert main(["prepare", "--data", "phantom", "--store", str(tmp_path / "s"), "--size", "32x64"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes == ["note: no image has bar", "note: no image is known to have dot"]


def test_from_a_store_to_tables_with_every_option_overridden(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two variants, one attribute; the second time nothing is trained and the tables are the same."""
    monkeypatch.chdir(tmp_path)
    arguments = ["study", "variants", "--store", str(toy_store.path), "--preset", "smoke", "--attributes", "disc"]
    arguments += ["--variants", "stage23,stage123", "--batch", "4", "--freeze-encoder", "--tables", "tables"]
    assert main(arguments) == 0
    first = {path.name: path.read_bytes() for path in Path("tables").glob("*.csv")}
    data = {"counts.csv", "data_areas.csv", "data_cooccurrence.csv"}
    assert set(first) == {*data, "variants.csv", "variants_folds.csv", "variants_curves.csv", "lesion.csv"}
    described = json.loads(Path("tables/study.json").read_text())
    assert described["variants"] == ["stage23", "stage123"] and described["settings"]["batch"] == 4
    table = pd.read_csv("tables/variants.csv")
    assert set(table["attribute"]) == {"disc", "average", "micro"} and set(table["shape"]) == {"link", "mean"}
    assert {path.parent.parent.name for path in Path("runs").rglob("weights.safetensors")} == {
        f"u-{SMALL}-random",  # Stage 1
        f"link-{SMALL}-random",
        f"link-{SMALL}-tatl-freeze",
    }
    capsys.readouterr()
    assert main(arguments) == 0
    assert "5 runs: 5 are there, 0 to do" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in Path("tables").glob("*.csv")} == first
    options = ["--store", str(toy_store.path), "--preset", "smoke", "--attributes", "disc", "--batch", "4"]
    assert main(["train", "--variant", "stage123", *options, "--freeze-encoder"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("next: python -m tatl predict IMAGE ")
    Image.new("RGB", (70, 40)).save("IMAGE.png")
    assert main(said[-1].replace("IMAGE", "IMAGE.png").split()[4:]) == 0
    assert Path("predictions/IMAGE_attribute_disc.png").is_file()
    told = "next: python -m tatl score --predictions predictions --truth TRUTH --only-predicted"
    assert capsys.readouterr().out.splitlines()[-1] == told
    Path("TRUTH").mkdir()
    Path("predictions/IMAGE_attribute_disc.png").rename("TRUTH/IMAGE_attribute_disc.png")
    Image.new("L", (70, 40)).save("predictions/IMAGE_attribute_disc.png")
    assert main(told.split()[4:]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == "scores are in scores.csv, per image in scores_images.csv" and said[-1].startswith("next: ")


def test_the_attributes_of_a_preset_are_its_phantom_s() -> None:
    def default(own_store: bool) -> str:
        return str(build_parser("quick", "paradigms", own_store).parse_args(["study", "paradigms"]).study.attributes)

    assert default(own_store=False) == "globules,streaks" and default(own_store=True) == ""
