"""`python -m experiments.kernels.judge [names ...]`: what the check makes of the kernels and of their planted bugs.

Kept and held-out kernels are counted apart. What is said of each kept bug is listed with --bugs; of the held-out ones only
with --held-out as well, which is not for those who work on the check.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import torch

import funcnn as fn
from experiments.kernels.corpus import CASES, KERNELS
from experiments.kernels.kernel import Kernel
from experiments.kernels.names import LATER, NAMES, OPERANDS, held_out
from experiments.kernels.operands import Case
from experiments.kernels.words import named

Check = Callable[..., Any]
HEADER = f"{'':19}  bugs found refused | named right misnamed none | right alarmed refused | seconds a bug, a right one"
PARTS = (
    ("kernels, kept", NAMES, False),
    ("kernels, held out", NAMES, True),
    ("later, kept", LATER, False),
    ("later, held out", LATER, True),
    ("operands, kept", OPERANDS, False),
    ("operands, held out", OPERANDS, True),
)


class Judgement(NamedTuple):
    """What the check said of one kernel: verdict is "wrong", "right" or "refused"; bug is "" where the kernel is right."""

    kernel: str
    bug: str
    causes: str
    verdict: str
    said: str
    seconds: float

    @property
    def naming(self) -> str:
        """How a bug that was found was named."""
        if not self.said:
            return "none"
        return "right" if named(self.said, self.causes) else "misnamed"


def judged(kernel: str, bug: str, causes: str, check: Callable[[], Any]) -> Judgement:
    """One run of the check. What it raises is a refusal."""
    start = perf_counter()
    try:
        report = check()
    except Exception as error:
        words = f"{type(error).__name__}: {error}".splitlines()
        return Judgement(kernel, bug, causes, "refused", words[0], perf_counter() - start)
    return Judgement(kernel, bug, causes, verdict(report, bug), causes_named(report), perf_counter() - start)


def verdict(report: Any, bug: str) -> str:
    """A bug is found where the report is not content. Of a right kernel, that it cannot be judged is a refusal."""
    findings = (report.leaves | report.trials).values()
    if report.ok:
        return "right"
    return "wrong" if bug or any(finding.verdict == "wrong" for finding in findings) else "refused"


def causes_named(report: Any) -> str:
    """The causes that a report names, with their sentences."""
    findings = (report.leaves | report.trials).values()
    told = [f"{f.cause}: {f.diagnosis}" for f in findings if f.verdict in ("wrong", "unreliable") and f.cause]
    return "; ".join(dict.fromkeys(told))


def judge(names: Iterable[str] = (), check: Check = fn.check_vjp, pair: bool = False, seed: int = 0) -> Iterator[Judgement]:
    """The judgements of these kernels, all by default, as autograd Functions or as pairs of rules."""
    for name in names or sorted(KERNELS):
        kernel = KERNELS[name]
        for what, causes, rule in (("", "", kernel.rule), *kernel.bugs):
            yield judged(name, what, causes, partial(one, check, kernel, rule, pair, seed))


def one(check: Check, kernel: Kernel, rule: Any, pair: bool, seed: int) -> Any:
    """A report on the kernel with a rule."""
    if pair:
        forward, backward = kernel.pair(rule)
        return check(forward, kernel.inputs(seed), backward=backward)
    return check(kernel.function(rule), kernel.inputs(seed))


def judge_operands(names: Iterable[str] = (), check: Check = fn.check_vjp) -> Iterator[Judgement]:
    """The judgements of these cases, all by default."""
    for name in names or sorted(CASES):
        case = CASES[name]
        for what, causes, word in (("", "", ""), *case.mistakes):
            yield judged(name, what, causes, partial(in_use, check, case, word))


def in_use(check: Check, case: Case, word: str) -> Any:
    """A report on a case, with a mistake or, for "", without."""
    return check(case.build(word), case.inputs(), **case.options)


def table(judgements: list[Judgement]) -> str:
    """The counts of each list of names, kept and held out apart."""
    lines = [HEADER]
    for part, names, held in PARTS:
        of = [j for j in judgements if j.kernel in names and held_out(j.kernel) == held]
        bugs, right = [j for j in of if j.bug], [j for j in of if not j.bug]
        found = [j for j in bugs if j.verdict == "wrong"]
        naming = [sum(j.naming == how for j in found) for how in ("right", "misnamed", "none")]
        refused = [sum(j.verdict == "refused" for j in some) for some in (bugs, right)]
        alarmed = sum(j.verdict == "wrong" for j in right)
        seconds = [sum(j.seconds for j in some) / max(1, len(some)) for some in (bugs, right)]
        lines.append(
            f"{part:19} {len(bugs):5} {len(found):5} {refused[0]:7} | {naming[0]:11} {naming[1]:8} {naming[2]:4} | "
            f"{len(right):5} {alarmed:7} {refused[1]:7} | {seconds[0]:.3f}, {seconds[1]:.3f}"
        )
    return "\n".join(lines)


def listing(judgements: list[Judgement], held: bool) -> str:
    """Every bug with what was said of it, and every right kernel that was not passed."""
    lines = []
    for j in judgements:
        if held_out(j.kernel) == held and (j.bug or j.verdict != "right"):
            how = j.naming if j.bug and j.verdict == "wrong" else ""
            verdict = {"wrong": "found" if j.bug else "ALARM", "right": "MISSED", "refused": "REFUSED"}[j.verdict]
            lines.append(f"{verdict:8}{how:9}{j.kernel}: {j.bug or 'right'} ({j.causes})\n{'':17}{j.said or '-'}")
    return "\n".join(lines)


def by_cause(judgements: list[Judgement]) -> str:
    """For each cause, the first of a bug's, how many of the kept bugs with it are named, misnamed and not named."""
    counts: dict[str, list[str]] = {}
    for j in judgements:
        if j.bug and not held_out(j.kernel):
            counts.setdefault(j.causes.split()[0], []).append(j.naming if j.verdict == "wrong" else "missed")
    hows = ("right", "misnamed", "none", "missed")
    lines = [f"{cause:12}" + ", ".join(f"{n} {how}" for how in hows if (n := of.count(how))) for cause, of in counts.items()]
    return "\n".join(sorted(lines))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--pair", action="store_true", help="pairs of rules in place of autograd Functions")
    parser.add_argument("--bugs", action="store_true", help="lists what was said of each kept bug")
    parser.add_argument("--held-out", action="store_true", help="lists the held-out bugs too")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs of the kernels")
    options = parser.parse_args()
    if unknown := set(options.names) - KERNELS.keys() - CASES.keys():
        parser.error(f"no kernels: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    kernels, cases = ([name for name in options.names if name in of] for of in (KERNELS, CASES))
    found = [*judge(kernels, pair=options.pair, seed=options.seed)] if kernels or not options.names else []
    found += [*judge_operands(cases)] if cases or not options.names else []
    if options.bugs:
        print(by_cause(found))
    for held in [False] * options.bugs + [True] * options.held_out:
        print(listing(found, held))
    print(table(found))


if __name__ == "__main__":
    main()
