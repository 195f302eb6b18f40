"""python -m tatl prepare | train | study | predict | score: wiring only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from tatl import commands
from tatl.settings import Settings, load_preset, presets

COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "prepare": (commands.prepare, "images and masks -> store"),
    "train": (commands.train, "store -> runs of one variant"),
    "study": (commands.study, "store -> runs and tables of a comparison"),
    "predict": (commands.predict, "images -> lesion box, union and attribute masks"),
    "score": (commands.score, "predicted masks against true ones"),
}
CONFIGURED = ("train", "study")


def build_parser(preset: str) -> ArgumentParser:
    """The command line, its defaults those of `preset`."""
    parser = ArgumentParser(prog="python -m tatl", description="Task agnostic transfer learning, from images to runs.")
    subcommands = parser.add_subcommands(required=True, dest="command")
    _, values = load_preset(preset)
    for name, (function, line) in COMMANDS.items():
        example = (function.__doc__ or "").partition("Example:")[2].partition("\n\n")[0].strip()
        sub = ArgumentParser(description=f"{line}.  Example: {example}" if example else f"{line}.")
        configured = name in CONFIGURED
        sub.add_function_arguments(function, skip={"settings"}, as_group=False)
        if configured:
            sub.add_class_arguments(Settings, as_group=False)
            sub.set_defaults({**values, "preset": preset})
        subcommands.add_subcommand(name, sub, help=line)
    return parser


def asked_preset(arguments: list[str]) -> str:
    """The value of --preset, which decides the defaults of everything else."""
    for given, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if given == "--preset":
            return following
        if given.startswith("--preset="):
            return given.partition("=")[2]
    return "quick"


def call(name: str, given: Namespace) -> None:
    values: dict[str, Any] = {k: v for k, v in vars(given).items() if k != "config"}
    if name in CONFIGURED:
        fields = Settings.__dataclass_fields__
        settings = Settings(**{k: values.pop(k) for k in list(values) if k in fields})
        values["settings"] = settings
    COMMANDS[name][0](**values)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a wrong input is one sentence and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        preset = asked_preset(arguments)
        if preset not in presets():
            load_preset(preset)
        given = build_parser(preset).parse_args(arguments)
        call(given.command, given[given.command])
    except KeyboardInterrupt:
        print("\nstopped: the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
