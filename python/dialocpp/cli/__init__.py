"""What can one type in a terminal? One command, one file. May import all rooms; nothing imports it."""

from __future__ import annotations

from typing import Any

import click

from dialocpp import __version__
from dialocpp.errors import DialocppError

from .bench import bench
from .chat import chat
from .evaluate import evaluate
from .generate import generate
from .info import info
from .output import sentence
from .pull import pull
from .quantize import quantize
from .score import score


class _Commands(click.Group):
    """A user's mistake ends in one sentence and exit code 1 (click's usage errors: 2), Ctrl-C in 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:
            raise  # click's own: the reader of our output has left
        except (DialocppError, ValueError, TypeError, OSError) as error:
            raise click.ClickException(sentence(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dialocpp")
def main() -> None:
    """Talk to DialoGPT and other GPT-2 dialogue models on a CPU.

    MODEL is a folder, a Hub id such as microsoft/DialoGPT-small, or nothing for the small demo model that
    comes with the package.
    """


for _command in (chat, generate, score, quantize, pull, info, bench, evaluate):
    main.add_command(_command)

__all__ = ["main"]
