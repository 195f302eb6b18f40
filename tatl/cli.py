"""Command lines generated from functions: `--long-names`, bare `--flags`, and errors of one sentence.

jsonargparse makes an option of every parameter and its help from the docstring; here its underscores become the
dashes that people type (both are accepted), and a boolean may stand without a value.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Collection, Sequence
from inspect import signature
from itertools import zip_longest
from typing import Any

from jsonargparse import ArgumentParser

LISTS = ("--shapes", "--attributes", "--folds", "--seeds", "--variants")  # people write them with one word, too
MEMORY = ("out of memory", "allocate memory", "failed to map segment", "can't start new thread")  # in errors of others
MYPY = False  # true to mypy: jsonargparse carries out what stands under TYPE_CHECKING, where --help waits for torch
ERRORS = (ValueError, OSError, RuntimeError, FloatingPointError, MemoryError)


def parser(**options: Any) -> ArgumentParser:
    """An empty parser that takes options by their whole names: a shortened one could be another's after an update."""
    return ArgumentParser(allow_abbrev=False, **options)


def dashed(parser: ArgumentParser) -> ArgumentParser:
    """Show `--like-this` for every option of the parser, let booleans stand alone, take `--shape` for `--shapes`."""
    for action in parser._actions:
        long = [name for name in action.option_strings if name.startswith("--")]
        if not long:
            continue
        name = long[0].replace("_", "-")
        action.option_strings = [s for s in action.option_strings if s not in long] + [name]
        parser._option_string_actions[name] = action
        if getattr(action, "_typehint", None) is bool:
            action.nargs, action.const = "?", True
    for name in [name for name in LISTS if name in parser._option_string_actions]:
        parser._option_string_actions.setdefault(name[:-1], parser._option_string_actions[name])
    return parser


def spelled_out(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """`--flag` alone as `--flag=true`, so that it does not take the word after it for its value."""
    return [
        f"{word}=true" if word.replace("_", "-") in flags and after.lower() not in ("true", "false") else word
        for word, after in zip_longest(arguments, arguments[1:], fillvalue="")
    ]


def flags(*functions: Callable[..., Any]) -> set[str]:
    """The options of functions (or dataclasses) that may stand alone: those whose default is a boolean."""
    parameters = [p for function in functions for p in signature(function).parameters.values()]
    return {f"--{p.name.replace('_', '-')}" for p in parameters if isinstance(p.default, bool)}


def picked(kind: type[Any], values: dict[str, Any]) -> Any:
    """An object of a dataclass from those of the values that are its fields, which go out of them."""
    return kind(**{name: values.pop(name) for name in list(values) if name in kind.__dataclass_fields__})


def describe(function: Callable[..., None], line: str) -> str:
    """The line, and the example of the function's docstring."""
    example = (function.__doc__ or "").partition("Example:")[2].partition("\n\n")[0].strip()
    return f"{line[0].upper()}{line[1:]}.  Example: {example}" if example else f"{line[0].upper()}{line[1:]}."


def run(action: Callable[[], None], resumes: bool = False) -> int:
    """Run a command; a wrong input is one sentence and exit status 2, Ctrl-C is status 130.

    `resumes` says that the same command, given again, goes on where it was stopped.  Who reads what it prints may
    have seen enough (`| head`): status 141, as of a program that the signal ends.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding lacks is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        action()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it flushes
        return 141
    except KeyboardInterrupt:
        print("\nstopped" + (": the same command goes on from here" if resumes else ""), file=sys.stderr)
        return 130
    except (*ERRORS, ImportError) as error:
        if isinstance(error, ImportError) and not out_of_memory(error):
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    return 0


def sentence(error: BaseException) -> str:
    """What an error says; of one that memory ran out, which many say in no word, what to do."""
    if not out_of_memory(error):
        return str(error)
    why = f" ({error})" if str(error) else ""
    return f"memory ran out{why}: close other programs or lift a limit (ulimit -v), give --workers 1, a smaller --batch"


def out_of_memory(error: BaseException) -> bool:
    """By its type or number, or by the words of what cannot be loaded, started or allocated for want of memory."""
    known = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return known or any(words in str(error).lower() for words in MEMORY)


def script(main: Callable[..., None], module: str = "", arguments: list[str] | None = None) -> int:
    """The command line of a script, or of a module, with one function; its exit status."""
    line = (main.__doc__ or "").partition("\n")[0].rstrip(".")
    made = parser(prog=f"python -m {module}" if module else None, description=describe(main, line))
    made.add_function_arguments(main, as_group=False)
    words = spelled_out(sys.argv[1:] if arguments is None else arguments, flags(main))
    return run(lambda: main(**vars(dashed(made).parse_args(words))))
