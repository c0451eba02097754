"""`dialocpp score`: how probable is a reply after these turns?"""

from __future__ import annotations

import click
from rich.table import Table

from dialocpp.checkpoint import Source

from .line_input import checked_text
from .options import Machine, machine_options, source_options
from .output import console, facts, json_line


@click.command()
@click.argument("reply")
@click.option(
    "-c",
    "--context",
    multiple=True,
    required=True,
    metavar="TURN",
    help="A turn before it, oldest first; repeat.",
)
@click.option("-m", "--model", metavar="MODEL", help="Folder or Hub id; by default the bundled demo.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@machine_options
@source_options
def score(
    reply: str, context: tuple[str, ...], model: str | None, as_json: bool, machine: Machine, source: Source
) -> None:
    """How probable is REPLY after a context?

    Prints log P (natural logarithm) of each token, end-of-text included, and the perplexity.
    """
    loaded = machine.load(model, source)
    result = loaded.score([checked_text(turn) for turn in context], checked_text(reply))
    tokens = [loaded.tokenizer.decode([id_]) for id_ in result.token_ids]
    if as_json:
        json_line(
            {
                "perplexity": result.perplexity,
                "logprob": result.total,
                "tokens": tokens,
                "token_ids": result.token_ids,
                "logprobs": result.logprobs.tolist(),
            }
        )
        return
    table = Table("token", "id", "log P", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for token, id_, logprob in zip(tokens, result.token_ids, result.logprobs, strict=True):
        table.add_row(repr(token), str(id_), f"{logprob:.4f}")
    console.print(table, markup=False)
    console.print()
    facts([("log P", f"{result.total:.4f}"), ("perplexity", f"{result.perplexity:.3f}")])
