"""`dialocpp pull`: is a model here, ready to run, and where?"""

from __future__ import annotations

from dataclasses import replace

import click

from dialocpp.checkpoint import Source, load_checkpoint

from .options import source_options
from .output import write


@click.command()
@click.argument("model")
@source_options
def pull(model: str, source: Source) -> None:
    """Fetch MODEL from the Hub, make its int8 copy, and print its folder.

    After that it starts at once, also without a network.
    """
    write(f"{load_checkpoint(replace(source, name=model)).folder}\n")
