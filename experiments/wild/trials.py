"""One checker on one rule at one point: what it said, and whether it named a cause that is true."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

import funcnn as fn
from experiments.bugs.checkers import judged
from experiments.bugs.subject import Subject, opened, true_error
from experiments.wild.case import Case, Point, plain, subject
from funcnn import tree

Checkers = dict[str, Callable[[Subject], Any]]
OURS, USUAL = "funcnn", "sum().backward()"


class Trial(NamedTuple):
    """A case by name, its rule (right or wrong), the point (ordinary or author's), how wrong it is there, what was said."""

    case: str
    rule: str
    point: str
    checker: str
    error: float
    verdict: str
    said: tuple[str, ...]
    naming: str
    seconds: float

    @property
    def found(self) -> bool:
        """Whether the checker calls the rule wrong. Where it fails with an error of its own, that is no finding."""
        return self.verdict == "detected"


def trials(case: Case, checkers: Checkers) -> Iterator[Trial]:
    """Every checker, and the test that everybody writes, on both rules at both points."""
    for place, point in case.points.items():
        right = subject(case, point, case.right)
        rules = {"right": right} | ({"wrong": subject(case, point, case.wrong)} if case.wrong else {})
        for rule, own in rules.items():
            error = true_error(right, own)
            for checker, check in (checkers | {USUAL: usual(case, point)}).items():
                yield Trial(case.name, rule, place, checker, error, *answer(check, own, case.names))


def answer(check: Callable[[Subject], Any], own: Subject, names: str) -> tuple[str, tuple[str, ...], str, float]:
    """The verdict, the causes with their sentences, whether one of them is true, and the seconds."""
    reports: list[Any] = []

    def kept(own: Subject) -> Any:
        reports.append(check(own._replace(inputs=tree.clone(own.inputs))))
        return reports[0]

    verdict, _, seconds = judged(kept, own)
    said = sentences(reports[0]) if reports and isinstance(reports[0], fn.Report) else ()
    naming = named(said, names) if verdict == "detected" and reports else ""
    return verdict, said, naming, seconds


def sentences(report: fn.Report) -> tuple[str, ...]:
    """Every cause that a report names, with the sentence that tells it, once."""
    findings = (report.leaves | report.trials).values()
    objections = [finding for finding in findings if finding.verdict in ("wrong", "unreliable") and finding.cause]
    return tuple(dict.fromkeys(f"{finding.cause}: {finding.diagnosis}" for finding in objections))


def named(said: tuple[str, ...], names: str) -> str:
    """Whether one of the causes is true. `names` was written before any of them was read."""
    if not said:
        return "not named"
    return "named right" if any(re.search(names, sentence, re.IGNORECASE) for sentence in said) else "misnamed"


def usual(case: Case, point: Point) -> Callable[[Subject], None]:
    """The test that everybody writes: y.sum().backward() beside autograd's, to three digits."""

    def check(own: Subject) -> None:
        forward, inputs = plain(case, point)
        taped = [leaf.requires_grad_() for leaf in inputs]
        expected = torch.autograd.grad(forward(*taped).sum(), taped)
        leaves, function = opened(own)
        y, pull = function(*leaves)
        grads = pull(torch.ones((), dtype=y.dtype).expand(y.shape))  # as sum hands it down
        assert all(torch.allclose(g, r, rtol=1e-3) for g, r in zip(grads, expected, strict=True)), "gradients differ"

    return check
