"""What most callers do with `train`: epochs over shuffled minibatches, an evaluation after each, a history to look at."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Generator, Tensor

from . import tree
from .errors import InputError, check_batch, check_count, check_generator, describe
from .train import train
from .types import Batch, Params, State

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History(NamedTuple):
    """What happened: `losses` (steps,), `epoch_ends` the number of steps at the end of each epoch, and `evaluations`.

    `evaluations[name]` has one number per epoch.
    """

    losses: Tensor
    epoch_ends: list[int]
    evaluations: dict[str, list[float]]

    def plot(self) -> "Figure":
        """The loss of every step, and the evaluations, against the steps."""
        from .plots import plot_history

        return plot_history(self)


class Fit(NamedTuple):
    """The result of `fit`: `params` and `state` to go on from, `history` to look at."""

    params: Params
    state: State
    history: History


def minibatches(data: Batch, batch_size: int, *, generator: Generator) -> Iterator[Batch]:
    """One epoch: every sample once, in a random order drawn from the generator, the last batch short where it must be.

    Raises:
        InputError: batch_size is no positive integer; empty data, or leaves that disagree on N.
    """
    check_count("batch_size", batch_size)
    check_batch(data)
    check_generator(generator)
    if not tree.leaves(data):
        raise InputError("data", describe(data), "at least one tensor")
    return _shuffled(data, batch_size, generator)


def _shuffled(data: Batch, batch_size: int, generator: Generator) -> Iterator[Batch]:
    first = tree.leaves(data)[0]
    order = torch.randperm(first.shape[0], generator=generator, device=generator.device).to(first.device)
    for chosen in order.split(batch_size):
        yield tree.map(lambda leaf, chosen=chosen: leaf[chosen], data)


def fit(
    step_fn: Callable[[Params, Batch], tuple[Tensor, Params]],
    optimizer_fn: Any,
    params: Params,
    data: Batch,
    *,
    epochs: int,
    batch_size: int,
    generator: Generator,
    evaluate: Callable[[Params], Mapping[str, Any] | Tensor | float] | None = None,
) -> Fit:
    """Trains for some epochs. On a terminal a progress bar shows how far it is; in a pipe nothing is printed.

    Args:
        step_fn: As for `train`.
        optimizer_fn: As for `train`.
        params: Where to start; left as it is.
        data: The whole data set, such as (inputs, targets); every leaf has the same leading axis.
        epochs: How often every sample is seen.
        batch_size: Samples per step.
        generator: Draws the order of the samples.
        evaluate: Called with the parameters after each epoch; returns numbers by name, or one number.

    Raises:
        InputError: as `train` and `minibatches`; epochs is no positive integer.
    """
    check_count("epochs", epochs)
    if evaluate is not None and not callable(evaluate):
        raise InputError("evaluate", describe(evaluate), "a function of the parameters")
    minibatches(data, batch_size, generator=generator)  # refuses bad data before the first step
    state, losses, epoch_ends = None, [], []
    evaluations: dict[str, list[float]] = {}
    steps = epochs * -(-tree.leaves(data)[0].shape[0] // batch_size)
    with _progress(steps) as advance:
        for epoch in range(epochs):
            batches = minibatches(data, batch_size, generator=generator)
            for step in train(step_fn, optimizer_fn, params, batches, state=state):
                params, state, value = step
                losses.append(value)
                advance()
            epoch_ends.append(len(losses))
            for name, number in _numbers(evaluate, params).items():
                evaluations.setdefault(name, []).append(number)
            if any(len(numbers) != epoch + 1 for numbers in evaluations.values()):
                raise InputError("evaluate(params)", f"the names {sorted(evaluations)}", "the same names after every epoch")
    return Fit(params, state, History(torch.stack(losses), epoch_ends, evaluations))


def _numbers(evaluate: Callable[[Params], Any] | None, params: Params) -> dict[str, float]:
    """What an evaluation returned, by name."""
    if evaluate is None:
        return {}
    result = evaluate(params)
    named = result if isinstance(result, Mapping) else {"evaluation": result}
    try:
        return {name: float(number) for name, number in named.items()}
    except (TypeError, ValueError, RuntimeError):
        raise InputError("evaluate(params)", describe(result), "a number, or a mapping of names to numbers") from None


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[], None]]:
    """A bar that advances at every call, on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=steps)
        yield lambda: bar.advance(task)
