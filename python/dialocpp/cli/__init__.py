"""What can one type in a terminal? One command, one file. May import all rooms; nothing imports it."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import Any

import click

from dialocpp import __version__
from dialocpp.errors import DialocppError

from .bench import bench
from .chat import chat
from .evaluate import evaluate
from .generate import generate
from .info import info
from .output import drop_output, prepare_streams, sentence, show_warning
from .pull import pull
from .quantize import quantize
from .score import score
from .train import train


class _Commands(click.Group):
    """A user's mistake ends in one sentence and exit code 1 (click's usage errors: 2), Ctrl-C in 130."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        prepare_streams()
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            try:
                return super().main(*arguments, **named)
            except SystemExit as end:
                self._end(end.code)
            except OSError as error:  # click itself could not write
                self._end(1, error)

    def _end(self, status: Any, error: OSError | None = None) -> None:
        """Leave with this status; what was to be written and is lost is an error as well."""
        try:
            sys.stdout.flush()
        except OSError as lost:
            status, error = status or 1, error or lost
        with contextlib.suppress(OSError, ValueError):
            if error is not None and not isinstance(error, BrokenPipeError):
                click.echo(f"Error: {sentence(error)}", err=True)
        drop_output()
        sys.exit(status)

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


for _command in (chat, generate, score, quantize, pull, info, bench, evaluate, train):
    main.add_command(_command)

__all__ = ["main"]
