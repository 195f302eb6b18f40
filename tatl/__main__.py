"""python -m tatl prepare | train | study | predict | score | export: wiring only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, get_args

from jsonargparse import ArgumentParser, Namespace

from tatl import cli, commands
from tatl.data.images.reading import Reading
from tatl.prediction.commands import export_command, predict_command, score_command
from tatl.studies.settings import Asked, Chosen, Cluster, Settings, StudyName, Where, load_preset

COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "prepare": (commands.prepare_command, "images and masks -> store"),
    "train": (commands.train_command, "store -> the networks of one variant"),
    "study": (commands.study_command, "store -> networks and tables of a comparison"),
    "predict": (predict_command, "images -> lesion box, union and attribute masks"),
    "score": (score_command, "predicted masks against true ones"),
    "export": (export_command, "the networks of a variant -> ONNX files that need neither torch nor this package"),
}
FIELDS: dict[str, type] = {  # whose fields are options of their own
    "reading": Reading, "chosen": Chosen, "place": Where, "asked": Asked, "cluster": Cluster, "settings": Settings,
}  # fmt: skip
LEFT_OUT = {"predict": {"follow_links"}, "score": {"exif", "max_pixels", "follow_links"}}
RESUMES = ("prepare", "train", "study")
RETIRED = {  # what old command lines hold, and what there is now
    "bound": "the bound is no study any more: give python -m analysis.bound --init all with the same options "
    "(for --variants random,tatl: --init random,tatl)",
    "--devices": "there is no --devices any more: several GPUs train several runs (--workers of study)",
}


def build_parser(preset: str, study: str = "", own_store: bool = False) -> ArgumentParser:
    """The command line, its defaults those of `preset` for `study`; ValueError if there is no such preset.

    The attributes that a preset chooses are its phantom's: on a store of one's own (`own_store`) all are the default.
    """
    parser = cli.parser(prog="python -m tatl", description="Task agnostic transfer learning, from images to runs.")
    subcommands = parser.add_subcommands(required=True, dest="command")
    of_preset = load_preset(preset, study)
    for name, (function, line) in COMMANDS.items():
        sub = cli.parser(description=cli.describe(function, line))
        if name == "predict":  # jsonargparse would want the list as JSON
            sub.add_argument("images", nargs="+", type=Path, help="pictures to segment")
        skip: set[str | int] = {*FIELDS, "images"}
        sub.add_function_arguments(function, skip=skip, as_group=False, as_positional=name == "study")
        for options in _options(function).values():
            sub.add_class_arguments(options, as_group=False, skip=set(LEFT_OUT.get(name, ())))
        if "settings" in _options(function):
            own = {**of_preset.settings, **(of_preset.options if name == "study" else {}), "preset": preset}
            if own_store:
                own.pop("attributes", None)
            sub.set_defaults(own)
        subcommands.add_subcommand(name, cli.dashed(sub), help=line)
    return parser


def _options(function: Callable[..., None]) -> dict[str, type]:
    """The parameters of a command whose fields are options of their own, with the class of each."""
    return {name: FIELDS[name] for name in signature(function).parameters if name in FIELDS}


def asked_preset(arguments: list[str]) -> str:
    """The value of --preset, which decides the defaults of everything else."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", nargs="?", default="quick", const="")
    return str(early.parse_known_args(arguments)[0].preset)


def asked_study(arguments: list[str]) -> str:
    """The study that is asked for, which a preset may have settings for."""
    return next((word for word in arguments if word in get_args(StudyName)), "") if "study" in arguments[:1] else ""


def call(name: str, given: Namespace) -> None:
    values: dict[str, Any] = dict(vars(given))
    for parameter, options in _options(COMMANDS[name][0]).items():
        values[parameter] = cli.picked(options, values)
    COMMANDS[name][0](**values)


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments

    def command() -> None:
        study_bound = arguments[:1] == ["study"] and "bound" in arguments and not asked_study(arguments)
        words = {"bound" if study_bound else "", *(word.partition("=")[0] for word in arguments if word[:2] == "--")}
        if old := sorted(RETIRED.keys() & words):
            raise ValueError(RETIRED[old[0]])
        flags = cli.flags(*FIELDS.values(), *(function for function, _ in COMMANDS.values()))
        own_store = any(word.partition("=")[0] == "--store" for word in arguments)
        parser = build_parser(asked_preset(arguments), asked_study(arguments), own_store)
        given = parser.parse_args(cli.spelled_out(arguments, flags))
        call(given.command, given[given.command])

    return cli.run(command, resumes="".join(arguments[:1]) in RESUMES)


if __name__ == "__main__":
    sys.exit(main())
