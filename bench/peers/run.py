"""Who is faster on this machine? All peers in one interleaved run.

    python bench/peers/run.py --cache build/peers --shape small --threads 2 --rounds 5

In each round every peer is started anew, makes its first token (the cold start; the files are in the page
cache), warms up and is measured once for each task, alone; the order turns by one from round to round. A peer
that fails stays in the table with its reason. One JSON line a peer and round goes to bench/results, with the
table and the plot beside it.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from dialocpp.benchmark import SHAPES
from dialocpp.benchmark.machine import cpu_name
from peers import ISA_SWITCHES, PEERS, Cache, Peer
from processes import PeerError, PeerProcess
from rich.console import Console
from summary import summarise
from table import show

RESULTS = Path(__file__).parents[1] / "results"
TABLE_WIDTH = 150

# What is measured, by the name of its column.
TASKS: dict[str, dict[str, Any]] = {
    "decode": {"task": "decode", "sequences": 1, "prompt_tokens": 32, "new_tokens": 129},
    "prefill": {"task": "prefill", "tokens": 512, "repeats": 3},
    "decode16": {"task": "decode", "sequences": 16, "prompt_tokens": 32, "new_tokens": 65},
}
QUICK: dict[str, dict[str, Any]] = {
    "decode": TASKS["decode"] | {"new_tokens": 33},
    "prefill": TASKS["prefill"] | {"repeats": 1},
    "decode16": TASKS["decode16"] | {"new_tokens": 9},
}
# Asked in the first round only: they do not race.
CHAT = {"turns": 20, "message_tokens": 12, "reply_tokens": 20}


@click.command()
@click.option(
    "--cache", "root", type=click.Path(path_type=Path), default=Path("build/peers"), show_default=True
)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="small", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--isa", type=click.Choice(list(ISA_SWITCHES)), help="Hold everybody to an instruction set.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--only", multiple=True, help="Names of peers, as in the table; default: all.")
@click.option("--quick", is_flag=True, help="Short replies: shows that everything works, not how fast.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default="bench/results")
def main(
    root: Path,
    shape: str,
    threads: int,
    isa: str | None,
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    out: Path,
) -> None:
    """Measure all peers, print the table, write JSON lines and a plot."""
    # Into a file or a pipe the table is wider than rich would guess.
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    cache = Cache(root.resolve())
    peers = [peer for peer in PEERS if not only or peer.name in only]
    started = datetime.now(timezone.utc)
    setting = {
        "date": started.isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "shape": shape,
        "threads": threads,
        "isa": isa or "all",
        "quick": quick,
    }
    records = []
    for turn in range(rounds):
        shift = turn % len(peers)
        for peer in peers[shift:] + peers[:shift]:
            record = measure(cache, peer, shape, threads, isa, QUICK if quick else TASKS, first=turn == 0)
            record = setting | {"round": turn + 1, "peer": peer.name} | record
            console.print(f"round {turn + 1}: {peer.name} {_brief(record)}", highlight=False)
            records.append(record)
    name = f"peers-{started:%Y-%m-%d-%H%M}-{shape}-{threads}t" + (f"-{isa}" if isa else "")
    write(out / name, records, console)


def measure(
    cache: Cache,
    peer: Peer,
    shape: str,
    threads: int,
    isa: str | None,
    tasks: dict[str, dict[str, Any]],
    first: bool,
) -> dict[str, Any]:
    """One peer in one round. What failed is under `error`; what was measured before it is kept."""
    record: dict[str, Any] = {}
    try:
        with PeerProcess(cache, peer, shape, threads, isa) as process:
            record |= {"cold_start_s": process.cold_start, "peak_rss_bytes": process.peak_rss_bytes}
            startup = process.ask("startup")
            if "result" in startup:  # the peer's work is done by processes of its own
                record["cold_start_s"], record["peak_rss_bytes"] = startup["result"]
            for name, request in tasks.items():
                record[name] = process.ask(**request)["tokens_per_s"]
            record["roofs"] = process.ask("roofs").get("result")
            if first:
                record["idle_cpu_percent"] = process.ask("idle")["cpu_percent"]
                record["chat_ttft_s"] = process.ask("chat", arguments=CHAT).get("result")
                record["details"] = process.ask("details").get("result")
                record["versions"] = process.ask("versions")["versions"]
    except PeerError as error:
        record["error"] = str(error).replace(
            str(cache.root), "CACHE"
        )  # results name no folder of the machine
    return record


def write(path: Path, records: list[dict[str, Any]], console: Console) -> None:
    """`path` with three endings: .jsonl, .txt and .png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = summarise(records)
    show(rows, records, console)
    with path.with_suffix(".txt").open("w") as file:
        show(rows, records, Console(file=file, width=TABLE_WIDTH))
    try:
        from plot import plot
    except ModuleNotFoundError as error:
        console.print(f"No plot: {error}.")
        return
    plot(rows, records, path.with_suffix(".png"))


def _brief(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"missing: {record['error']}"
    speeds = ", ".join(f"{task} {max(record[task]):,.0f}" for task in TASKS)
    return f"{speeds} tokens/s; first token after {record['cold_start_s']:.2f} s"


if __name__ == "__main__":
    main()
