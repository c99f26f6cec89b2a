"""Programs whose first argument is a captioner, by which their other settings are as it was trained."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, cast

import tyro

from captioner_jax import bundle
from captioner_jax.bundle import Bundle
from captioner_jax.config import checked, from_dict
from captioner_jax.errors import UserError

Options = TypeVar("Options")
"""A dataclass, with the captioner first, and `data`."""
# What a captioner is made for, and no setting changes.
FIXED = ("image_size", "framing", "max_length")


def of_captioner(kind: type[Options], arguments: list[str], program: str) -> tuple[Bundle, Options]:
    """The captioner that is named first, and all that is asked; it ends with help where that is all that is asked.

    Raises UserError where none is named first, for one that cannot be read, and for settings that cannot be had.
    """
    if not arguments or arguments[0].startswith("-"):
        if {"-h", "--help"} & {*arguments}:
            tyro.cli(kind, args=["--help"], prog=program)  # which ends the program
        raise UserError(f"name a captioner before all options: {program} CAPTIONER ...; --help tells more")
    captioner = bundle.load(bundle.found(arguments[0]))
    as_trained, make = captioner.trained_on, cast(Callable[..., Options], kind)
    default = make(arguments[0], data=as_trained)
    asked: Any = checked(tyro.cli(kind, args=arguments, default=default, prog=program))
    if "published" in captioner.training and not any(argument.startswith("--data.source") for argument in arguments):
        raise UserError(f"{arguments[0]} does not tell what it was trained on: name the kind of data by --data.source")
    from_dict({"data": dataclasses.asdict(asked.data)}, "command line")
    for name in FIXED:
        there = getattr(as_trained, name)
        if getattr(asked.data, name) != there:
            raise UserError(f"data.{name}: this captioner is made for {there}, and takes no other: leave it out")
    return captioner, asked
