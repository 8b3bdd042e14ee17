"""A real mistake: the same forward rule with the backward rule as it should be, and as it stood in somebody's project.

A mistake that lived for months had a place to hide. Where that place was a point (numbers, a shape, a setting, an argument
that needed no gradient), it is kept here as the author's point, beside an ordinary one where the mistake shows.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from experiments.bugs.functions import function
from experiments.bugs.mistakes import Rule
from experiments.bugs.subject import Subject
from funcnn import tree


class Point(NamedTuple):
    """Where a rule is looked at: its inputs, its settings, and how many of the last inputs are constants there."""

    inputs: tuple[Tensor, ...]
    settings: dict[str, Any] = {}
    constants: int = 0


class Case(NamedTuple):
    """One mistake of a project, in formulas.

    source    project#number, or the project where the mistake has no number
    function  what is computed
    mistake   what is wrong with its backward rule, in words
    hid       why nobody saw it
    names     a pattern: what a diagnosis may say to have named a true cause
    forward   forward(*inputs, **settings) -> y, in plain torch
    right     right(*inputs, dy, **settings) -> the gradients of the inputs
    wrong     the rule as it stood; None for what was reported as a mistake and is none
    """

    source: str
    function: str
    mistake: str
    hid: str
    names: str
    forward: Callable[..., Tensor]
    right: Rule
    wrong: Rule | None
    ordinary: Point
    authors: Point | None = None

    @property
    def link(self) -> str:
        """Where it is told; GitHub leads from the number of an issue to the pull request that has it."""
        project, _, number = self.source.partition("#")
        return f"https://github.com/{project}" + (f"/issues/{number}" if number else "")

    @property
    def name(self) -> str:
        """The project without its owner, the number, and the function."""
        return f"{self.source.split('/')[1]}: {self.function}"

    @property
    def points(self) -> dict[str, Point]:
        """Both points by name, or the one that there is."""
        return {"ordinary": self.ordinary} | ({"author's": self.authors} if self.authors else {})


def plain(case: Case, point: Point) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """The forward rule at a point as a function of what is no constant there, and these inputs."""
    free = len(point.inputs) - point.constants
    forward = partial(case.forward, **point.settings)
    return lambda *inputs: forward(*inputs, *point.inputs[free:]), tree.clone(point.inputs[:free])


def subject(case: Case, point: Point, rule: Rule) -> Subject:
    """A torch.autograd.Function with this backward rule, and its inputs. Gradients of constants are thrown away."""
    forward, inputs = plain(case, point)
    constants = point.inputs[len(inputs) :]

    def backward(*inputs_and_dy: Tensor) -> Any:
        *own, dy = inputs_and_dy
        grads = rule(*own, *constants, dy, **point.settings)
        return grads[: len(own)] if isinstance(grads, tuple) else grads

    return Subject(function(forward, backward), inputs)
