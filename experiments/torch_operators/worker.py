"""A process of its own that checks operators and prints a line of JSON for each sample.

Importing torch's database freezes torch's flags, adds to the filters of warnings and to the path of imports; its samples
draw from torch's global generator, and its operators warn. None of that is to reach whoever runs the experiment.
"""

import json
import sys
import warnings
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import torch

import funcnn as fn
from experiments.torch_operators.cases import Case, Unfit, case, differentiable, name, samples
from experiments.torch_operators.defects import DEFECTS
from experiments.torch_operators.explain import explain


def main(count: int, seed: int, every: int, names: list[str]) -> None:
    """The operators of these names, or every n-th of all, and torch's defects."""
    from torch.testing._internal.common_methods_invocations import op_db

    operators = [operator for operator in op_db if differentiable(operator) and (not names or name(operator) in names)]
    for operator in operators[::every]:
        for record in checked(operator, count, seed):
            print(json.dumps(record), flush=True)
    for defect in DEFECTS:
        shown = defect.shown()
        sides = None if shown is None else [str(side.tolist()) for side in shown]
        print(json.dumps({"defect": defect.operators[0], "sides": sides}))


def checked(operator: Any, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """A record for each of the first samples that have numbers in them."""
    taken = 0
    for number, sample in enumerate(samples(operator, seed)):
        record: dict[str, Any] = {"operator": name(operator), "sample": number}
        try:
            record |= verdict(case(operator, number, sample))
        except Unfit as unfit:
            record |= {"verdict": "unfit", "why": str(unfit)}
        yield record
        taken += record.get("why") != "no numbers"
        if taken == count:  # the next sample may take long to make
            return


def verdict(one: Case) -> dict[str, Any]:
    """What check_vjp says of a sample; and where it objects, why."""
    start = perf_counter()
    try:
        report = fn.check_vjp(one.f, one.inputs)
    except fn.InputError as error:
        return {"verdict": "refused", "why": str(error)}
    except Exception as error:
        return {"verdict": "raises", "why": f"{type(error).__name__}: {error}".splitlines()[0]}
    said = {name: f for name, f in (report.leaves | report.trials).items() if f.verdict not in ("ok", "kink")}
    found: dict[str, Any] = {"verdict": "objects" if said else "ok", "seconds": perf_counter() - start}
    if said:
        found["said"] = [[name, f.verdict, f.cause, f.diagnosis] for name, f in said.items()]
        found |= explain(one, list(said))._asdict()
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
