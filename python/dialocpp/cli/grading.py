"""How does one grade two models in a terminal, without knowing which is which?"""

from __future__ import annotations

from pathlib import Path

import click

from dialocpp.evaluation.comparison import pairs, read_grades, wins, write_grade
from dialocpp.model import Model

from .output import facts, write

_HELP = "1 or 2: that reply is better; =: neither; q: go on another time"


def grade(model: Model, against: Model, names: tuple[str, str], messages: dict[int, str], path: Path) -> None:
    """Show pair after pair until `q`, the end of stdin or the last message; write each grade to `path`."""
    grades = read_grades(path, names)
    write(_HELP + "\n")
    for pair in pairs(model, against, {number: text for number, text in messages.items() if number not in grades}):
        write(f"\n> {pair.message}\n1  {pair.shown[0]}\n2  {pair.shown[1]}\n")
        try:
            choice = click.prompt("better", type=click.Choice(["1", "2", "=", "q"]), show_choices=False)
        except click.Abort:
            choice = "q"
        if choice == "q":
            break
        grades[pair.number] = pair.better(choice)
        write_grade(path, pair, grades[pair.number], names)
    counted = wins(grades)
    share, low, high = counted.share()
    write("\n")
    facts(
        [
            (names[0], f"{counted.model} better"),
            (names[1], f"{counted.against} better"),
            ("neither", str(counted.neither)),
            ("share", f"{share:.0%} of the decided ones for {names[0]}; 95 % interval {low:.0%} to {high:.0%}"),
        ]
    )
