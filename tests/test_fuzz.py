"""Hostile input at every public door, some hundreds of cases of `experiments.fuzz`; and that the fuzzer can fail."""

from itertools import count
from types import FunctionType

import funcnn as fn
from experiments.fuzz import planted
from experiments.fuzz.judge import WELL
from experiments.fuzz.rows import CALLS
from experiments.fuzz.rows.records import UNCHECKED
from experiments.fuzz.workers import PLANTED, ROWS, drawn, run

CASES = 400


def public():
    """Every public name, those of data, distributed and tree by their own."""
    names = {name for name in fn.__all__ if name not in ("data", "distributed", "tree")}
    names |= {f"distributed.{name}" for name, thing in vars(fn.distributed).items() if isinstance(thing, FunctionType)}
    for module in (fn.data, fn.tree):
        own = {name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__}
        names |= {f"{module.__name__[7:]}.{name}" for name in own if name[0] != "_" and name not in UNCHECKED}
    return names


def test_every_public_name_has_a_row_and_every_row_a_name():
    assert {name.partition(",")[0] for name in CALLS} == public()


def test_a_case_is_drawn_again_from_its_number():
    for number in range(3):
        assert str(drawn(ROWS, 1, number)) == str(drawn(ROWS, 1, number)) != str(drawn(ROWS, 2, number))


def test_hostile_input_ends_in_a_right_number_or_in_a_refusal():
    ended = list(run(2026, range(CASES), processes=1))
    assert sorted(one.number for one in ended) == [*range(CASES)]
    assert not [one for one in ended if one.ending.how not in WELL]


def test_the_fuzzer_counts_every_planted_defect():
    right = [
        next(n for n in count(index, len(planted.CALLS)) if not drawn(PLANTED, 0, n).spoiled)
        for index in range(len(planted.CALLS))
    ]
    ended = {
        drawn(PLANTED, 0, one.number).name: one.ending.how for one in run(0, right, processes=1, module=PLANTED, seconds=1)
    }
    assert ended == {name: how for name, (_, how) in planted.DEFECTS.items()}
