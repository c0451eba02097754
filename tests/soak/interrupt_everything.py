"""Does anything break when a call is interrupted anywhere? All kinds of calls and interrupts, at random moments.

    PYTHONPATH=tests/support python tests/soak/interrupt_everything.py --times 200 [--work reply] [--strike SIGINT]

Prints what became of the calls; exits with an error if anything was left behind or a reply differed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter

from dialocpp import Model
from interrupts import STRIKES, WORKS, interrupted, raising_handlers, undisturbed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="of each kind of call and of interrupt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default=None, help="a folder or name; the bundled model")
    parser.add_argument("--work", choices=WORKS, action="append")
    parser.add_argument("--strike", choices=STRIKES, action="append")
    given = parser.parse_args()
    model, wrong = Model.from_pretrained(given.model, num_threads=1), 0
    for work in given.work or WORKS:
        expected, bytecodes = undisturbed(model, work)
        for name in given.strike or STRIKES:
            rng, outcomes = random.Random(f"{given.seed} {work} {name}"), Counter[str]()
            with raising_handlers():
                for _ in range(given.times):
                    at = rng.randint(1, bytecodes)
                    try:
                        outcomes[interrupted(model, work, at, STRIKES[name], expected)] += 1
                    except Exception as error:
                        wrong += 1
                        print(f"{work}, {name}, bytecode {at}: {error!r}", file=sys.stderr)
            print(f"{work}, {name}, {bytecodes} bytecodes: {dict(outcomes)}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
