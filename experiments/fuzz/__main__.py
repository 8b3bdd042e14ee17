"""`python -m experiments.fuzz --cases 10000 --seed 0` runs the cases and lists the failures, grouped by their cause."""

import time
from collections import defaultdict
from dataclasses import dataclass

import tyro

from experiments.fuzz.judge import WELL, judged
from experiments.fuzz.workers import ROWS, Ended, drawn, run


@dataclass(frozen=True)
class Fuzz:
    """Hostile input at every public door."""

    cases: int = 10_000
    """How many cases."""
    seed: int = 0
    """All that is drawn comes from it and from the number of a case."""
    processes: int = 2
    """How many run at a time."""
    case: int | None = None
    """Only the case of this number, here and now."""


def main(options: Fuzz) -> int:
    """Prints the failures, one group a cause, and how many cases ended in which way; 1 where one ended badly."""
    if options.case is not None:
        one = drawn(ROWS, options.seed, options.case)
        ending = judged(one)
        print(one, *ending, sep="\n")
        return int(ending.how not in WELL)
    start, groups, count = time.perf_counter(), defaultdict[tuple[str, ...], list[Ended]](list), defaultdict[str, int](int)
    for ended in run(options.seed, range(options.cases), processes=options.processes):
        count[ended.ending.how] += 1
        if ended.ending.how not in WELL:
            groups[ended.ending.how, ended.ending.where, ended.ending.why.partition(":")[0]].append(ended)
    for (how, where, _), members in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = min(members)
        print(f"{len(members)} x {how}, {where}: {first.ending.why}")
        print(f"    {first.what}: python -m experiments.fuzz --seed {options.seed} --case {first.number}")
    well = sum(count[how] for how in WELL)
    print(f"{well} of {options.cases} cases ended well in {time.perf_counter() - start:.0f} s:", end=" ")
    print(", ".join(f"{number} {how}" for how, number in sorted(count.items(), key=lambda item: -item[1])))
    return int(well < options.cases)


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Fuzz)))
