"""Which of two models gives the better reply, when the reader does not know which is which?

Both answer the same messages, each with the same seed; which reply is shown first is drawn by that seed too. A grade is
a line of a JSON Lines file, written as soon as it is given, so that grading goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dialocpp.chat.session import ChatSession
from dialocpp.model import Model

Better = Literal["model", "against", "neither"]


@dataclass(frozen=True)
class Pair:
    """Two replies to one message."""

    number: int
    message: str
    model: str
    """What the model said."""
    against: str
    """What the other one said."""
    model_first: bool

    @property
    def shown(self) -> tuple[str, str]:
        return (self.model, self.against) if self.model_first else (self.against, self.model)

    def better(self, choice: str) -> Better:
        """Whose reply a reader prefers who saw `shown`: `1`, `2`, or `=` for neither."""
        if choice == "=":
            return "neither"
        return "model" if (choice == "1") == self.model_first else "against"


@dataclass(frozen=True)
class Wins:
    """Grades, counted."""

    model: int
    against: int
    neither: int

    def share(self) -> tuple[float, float, float]:
        """The model's share of the decided pairs, and its 95 % interval (Wilson 1927); 0 to 1 where none is decided."""
        count, z = self.model + self.against, 1.96
        if not count:
            return 0.5, 0.0, 1.0
        share = self.model / count
        middle = (share + z * z / (2 * count)) / (1 + z * z / count)
        half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
        return share, middle - half, middle + half


def pairs(model: Model, against: Model, messages: Mapping[int, str]) -> Iterator[Pair]:
    """The replies of both to each message, one after the other; the number of a message is its seed."""
    for number, message in messages.items():
        said = [ChatSession(one, seed=number).reply(message).text for one in (model, against)]
        yield Pair(number, message, said[0], said[1], random.Random(number).random() < 0.5)


def write_grade(path: Path, pair: Pair, better: Better, names: Sequence[str]) -> None:
    """Add one line: the pair, the names of both models, and who was better."""
    line = asdict(pair) | {"names": list(names), "better": better}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_grades(path: Path, names: Sequence[str]) -> dict[int, Better]:
    """Number of the message -> who was better. Nothing where there is no file yet.

    ValueError for a line that is no grade, or one of two other models.
    """
    if not path.exists():
        return {}
    found: dict[int, Better] = {}
    for place, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            number, better, graded = int(line["number"]), line["better"], line["names"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path}, line {place}: expected a grade, found {text[:60]!r}; give a new file."
            ) from error
        if graded != list(names) or better not in ("model", "against", "neither"):
            raise ValueError(f"{path}, line {place}: expected a grade of {names[0]} and {names[1]}, found {graded}.")
        found[number] = better
    return found


def wins(grades: Mapping[int, Better]) -> Wins:
    counted = list(grades.values())
    return Wins(counted.count("model"), counted.count("against"), counted.count("neither"))
