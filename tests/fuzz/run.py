"""How long does each target hold against random input?

    python tests/fuzz/run.py [--seconds 3] [--executions N] [TARGET ...]

Each target gets seeds 0, 1, 2, … in 8 bytes: the same run finds the same things. A finding is shown with its seed and
ends the run with status 1; `--from SEED --executions 1` repeats it.
"""

import argparse
import sys
import time
import traceback

from targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; by default all")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each target; 0: no limit")
    parser.add_argument("--executions", type=int, default=0, help="for each target; 0: no limit")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="SEED")
    options = parser.parse_args()
    failed = False
    for name in options.targets or TARGETS:
        begin, seed = time.monotonic(), options.first
        while not options.seconds or time.monotonic() - begin < options.seconds:
            if options.executions and seed - options.first >= options.executions:
                break
            try:
                TARGETS[name](seed.to_bytes(8, "little"))
            except BaseException:
                traceback.print_exc()
                print(f"{name}: seed {seed} found this", file=sys.stderr)
                failed = True
                break
            seed += 1
        print(f"{name}: {seed - options.first} executions in {time.monotonic() - begin:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
