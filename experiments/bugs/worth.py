"""What each witness and hypothesis is worth: counted while the check runs, since both tables are its arguments.

A witness is worth the cases that it settles, a hypothesis the leaves that it names. What a verdict would be without one of
them is seen by leaving it out, --without NAME.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import funcnn as fn
from experiments.core.result import Table

Tables = dict[str, list[Callable[[Any], Any]]]


def tables(without: str = "") -> Tables:
    """The tables of the check, less one of their entries."""
    whole = {"witnesses": fn.WITNESSES, "hypotheses": fn.HYPOTHESES}
    return {name: [each for each in table if each.__name__ != without] for name, table in whole.items()}


def counted(of: Tables, worth: Counter[str]) -> Tables:
    """The same tables, which count what they are worth."""

    def witness(hear: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @wraps(hear)
        def heard(case: Any) -> Any:
            case = hear(case)
            worth[hear.__name__] += case.settled
            return case

        return heard

    def hypothesis(ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @wraps(ask)
        def asked(evidence: Any) -> Iterator[tuple[str, str]]:
            for cause, sentence in ask(evidence):
                worth[ask.__name__] += bool(cause)
                yield cause, sentence

        return asked

    return {"witnesses": [*map(witness, of["witnesses"])], "hypotheses": [*map(hypothesis, of["hypotheses"])]}


def table(of: Tables, worth: Counter[str]) -> Table:
    """Each entry, in order."""
    kinds = (("witnesses", "settles"), ("hypotheses", "names"))
    rows = [[each.__name__, verb, str(worth[each.__name__])] for kind, verb in kinds for each in of[kind]]
    columns = ["witness or hypothesis", "what it does", "leaves"]
    return Table("What each witness settles, and each hypothesis names, over all subjects", columns, rows)
