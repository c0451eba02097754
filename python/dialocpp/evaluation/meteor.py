"""How well does a text match its references in words, stems and synonyms: METEOR 1.5, by its own program?

Denkowski and Lavie 2014. The program is a Java archive that comes with the package pycocoevalcap, and it needs Java.
Where one of them is missing there is no METEOR, and `missing` says which.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dialocpp.errors import DialocppError


def archive() -> Path | None:
    """Where pycocoevalcap keeps the program, if it is installed. Nothing of it is imported."""
    spec = importlib.util.find_spec("pycocoevalcap")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((path for folder in folders if (path := folder / "meteor" / "meteor-1.5.jar").is_file()), None)


def missing() -> str | None:
    """What METEOR lacks on this machine, as a sentence; None if nothing."""
    if archive() is None:
        return 'no METEOR: expected meteor-1.5.jar, found none; pip install "dialocpp[eval]".'
    if shutil.which("java") is None:
        return "no METEOR: expected java on PATH, found none; install a Java runtime."
    return None


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The score of all texts together, options `-l en -norm`. DialocppError if the program is not there or fails.

    Line breaks inside of a text become spaces: the program reads one text a line.
    """
    jar, java = archive(), shutil.which("java")
    if jar is None or java is None:
        raise DialocppError(missing() or "no METEOR")
    with tempfile.TemporaryDirectory() as folder:
        said, expected = Path(folder, "said"), Path(folder, "expected")
        _write(said, hypotheses)
        # All references of a text stand one under the other.
        _write(expected, [text for texts in zip(*references, strict=True) for text in texts])
        command = [java, "-Xmx2G", "-jar", str(jar), str(said), str(expected)]
        options = ["-l", "en", "-norm", "-r", str(len(references))]
        done = subprocess.run(command + options, capture_output=True, text=True, encoding="utf-8", check=False)
    score = re.search(r"^Final score:\s+([\d.eE-]+)", done.stdout, re.MULTILINE)
    if done.returncode or not score:
        said_last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise DialocppError(f"expected a score of METEOR, found exit code {done.returncode}: {' '.join(said_last)}")
    return float(score[1])


def _write(path: Path, texts: Sequence[str]) -> None:
    path.write_text("".join(" ".join(text.split()) + "\n" for text in texts), encoding="utf-8", newline="\n")
