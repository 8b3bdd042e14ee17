"""Is the test any good? A test of a gradient is worth the mistakes that it objects to, so they are planted one by one.

    the gradient      of the wrong sign, twice or N times too large, zero, NaN, wrong by 1e-3 or in one entry by 10%, its
                      entries elsewhere, those of two inputs exchanged, that of the last input missing, one alone wrong
    the cotangent u   taken for 1, taken for u |u|, read as it lies in memory
    the calls         right once, and wrong from the second on

The rule goes on as it is, between the test and a wrapper that alters what comes out of it or what goes in.
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from .. import kernels
from ..errors import InputError, called, check_seed, describe
from ..report import Finding, Report
from .audited import Plant, subject_of
from .planted import MISTAKES, alone

ALONE = 16  # gradients that are made wrong one by one
PLACE = "test(rule)"


def audit(test: Callable[[Any], Any], backward: Any, *, seed: int = 0) -> Report:
    """Runs a test of a backward rule with standard mistakes planted in the rule, and says which of them it lets pass.

        def passes(backward):
            fn.assert_vjp(forward, (x, w), backward=backward)

        def test_the_test():
            assert fn.audit(passes, backward)

    The report has a trial for each mistake: "ok" if the test objected, else "wrong", with what would have seen it. Mistakes
    that this rule cannot make, as exchanging the gradients of one input, are left out and named in the remarks.

    What it cannot see is a reference that repeats the mistake of the rule: the rule handed in is taken to be right.

    Args:
        test: Called with the rule. It objects by raising anything, or by returning what is false and not None, such as a
            Report that is not ok. Each run finds the global generators of torch (the CPU's), NumPy and Python seeded alike.
        backward: The right rule, as the test takes it: backward(residuals, dy) -> grads, or of a loss backward(residuals);
            a torch.autograd.Function, of which the test gets a subclass; a Layer, a Loss or a StepFn.
        seed: Of the global generators, which are put back afterwards.

    Raises:
        InputError: a test that cannot be called with one argument; a rule of none of these forms.
    """
    if not callable(test):
        raise InputError("test", describe(test), "a callable that takes the rule")
    run = partial(_objection, test, seed=check_seed(seed))
    subject = subject_of(backward)

    right = Plant(subject)
    said = run(right.rule)
    if not right.calls:
        never = "the rule is never called: the test makes none of it, or uses another one than it is handed"
        failed = f"the test fails before it calls the rule: {said}"
        trials = {"right rule": _wrong(failed)} if said else {"called": _wrong(never)}
        return Report({}, trials, remarks=("No mistake was planted.",))
    mistakes = [mistake for mistake in MISTAKES if mistake.name in right.fitting]
    mistakes += [alone(i, path) for i, path in enumerate(right.paths[:ALONE]) if len(right.paths) > 1]
    plants = [Plant(subject, mistake) for mistake in mistakes]
    passed = [not run(plant.rule) for plant in plants]
    if said and not run(backward):
        return Report({}, {"right rule": _wrong(f"the test asks more of the rule than to be called: {said}")})
    if said:
        expected = ", ".join(mistake.name for mistake, lets in zip(mistakes, passed, strict=True) if lets)
        instead = f"; it passes this mistake: {expected}" if expected else ""
        return Report({}, {"right rule": _wrong(f"the test fails the right rule: {said}{instead}")})

    trials = {"right rule": Finding("ok", 0.0), "called": Finding("ok", 0.0)}
    for mistake, plant, lets in zip(mistakes, plants, passed, strict=True):
        unseen = "" if plant.error else "; here it changes nothing"
        blind = Finding("wrong", plant.error, diagnosis=f"the test passes {mistake.blind}{unseen}")
        trials[mistake.name] = blind if lets else Finding("ok", plant.error)
    left_out = [mistake for mistake in MISTAKES if mistake.name not in right.fitting]
    remarks = [f"{mistake.name}: not planted, since {mistake.needs}." for mistake in left_out]
    if len(right.paths) > ALONE:
        remarks.append(f"Of {len(right.paths)} gradients {ALONE} were made wrong alone.")
    return Report({}, trials, remarks=tuple(remarks))


def _objection(test: Callable[[Any], Any], rule: Any, seed: int) -> str:
    """What the test says against a rule, "" for nothing."""
    try:
        with _seeded(seed):
            verdict = kernels.undisturbed(called, PLACE, test, rule)
            return "" if verdict is None or verdict else f"it returns {describe(verdict)}"
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a failure of pytest is no Exception
        if isinstance(error, InputError) and error.place == PLACE:
            raise
        return " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Where the global generators begin at a seed; afterwards they are what they were, and so is the default dtype."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate(), torch.get_default_dtype()
    try:
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        torch.set_default_dtype(states[3])


def _wrong(sentence: str) -> Finding:
    return Finding("wrong", math.inf, diagnosis=sentence)
