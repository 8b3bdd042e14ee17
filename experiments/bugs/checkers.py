"""Gradient checkers in one form: what each says of a subject, the causes that it names, and how long it takes."""

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Literal, NamedTuple

from torch.autograd.gradcheck import GradcheckError

import funcnn as fn
from experiments.bugs.peers import gradcheck, hips_check_grads, jax_check_grads, missing
from experiments.bugs.subject import Subject
from experiments.bugs.worth import Tables, tables
from experiments.core.options import BadOption

Verdict = Literal["detected", "passed", "kink", "refused"]


class Outcome(NamedTuple):
    """What a checker said of a subject, the causes that it named, and the seconds it took."""

    verdict: Verdict
    causes: tuple[str, ...]
    seconds: float


def judged(checker: Callable[[Subject], Any], subject: Subject) -> Outcome:
    """Runs a checker. What it raises on finding an error counts as detected, anything else that it raises as refused."""
    start = perf_counter()
    try:
        report = checker(subject)
        verdict: Verdict = "passed"
    except (AssertionError, GradcheckError):
        report, verdict = None, "detected"
    except Exception:
        report, verdict = None, "refused"
    return Outcome(*(read(report) if report is not None else (verdict, ())), perf_counter() - start)


def read(report: Any) -> tuple[Verdict, tuple[str, ...]]:
    """A report of ours as a verdict and the causes that it names."""
    findings = [*report.leaves.values(), *report.trials.values()]
    causes = tuple(dict.fromkeys(f.cause for f in findings if f.verdict in ("wrong", "unreliable") and f.cause))
    if not report.ok:
        return "detected", causes
    return ("kink" if any(f.verdict == "kink" for f in findings) else "passed"), causes


def ours(subject: Subject, **tables: Any) -> Any:
    """fn.check of a StepFn, fn.check_vjp of anything else, with other witnesses or hypotheses where they are given."""
    if isinstance(subject.what, fn.StepFn):
        return fn.check(subject.what, *subject.inputs, **tables)
    return fn.check_vjp(subject.what, subject.inputs, **tables)


def without(name: str) -> Tables:
    """The tables of ours without one witness or hypothesis. Raises BadOption for a name that is none of theirs."""
    names = [each.__name__ for table in tables().values() for each in table]
    if name and name not in names:
        raise BadOption(f"without: {name!r} is none of {', '.join(names)}")
    return tables(name)


def available(**tables: Any) -> dict[str, Callable[[Subject], Any]]:
    """Every checker that is installed, ours first, with its tables if they are given."""
    found: dict[str, Callable[[Subject], Any]] = {
        "funcnn": partial(ours, **tables),
        "gradcheck, slow": partial(gradcheck, fast_mode=False),
        "gradcheck, fast": partial(gradcheck, fast_mode=True),
        "JAX check_grads": jax_check_grads,
        "HIPS autograd check_grads": hips_check_grads,
    }
    absent = {"jax": "JAX check_grads", "autograd": "HIPS autograd check_grads"}
    for package in missing():
        del found[absent[package]]
    return found
