"""What most callers do with `train`: epochs over shuffled minibatches, an evaluation after each, a history to look at."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from . import tree
from .errors import InputError, check_batch, check_count, check_generator, describe
from .history import Fit, History
from .loop import train
from .types import Batch, Params, State


def minibatches(data: Batch, batch_size: int, *, generator: Generator) -> Iterator[Batch]:
    """One epoch: every sample once, in a random order drawn from the generator, the last batch short where it must be.

    Raises:
        InputError: batch_size is no positive integer; empty data, or leaves that disagree on N.
    """
    batch_size = check_count("batch_size", batch_size)
    leaves = check_batch(data)
    check_generator(generator)
    if not leaves:
        raise InputError("data", describe(data), "at least one tensor")
    if len(devices := {str(leaf.device) for leaf in leaves}) > 1:
        raise InputError("data", f"tensors on {' and '.join(sorted(devices))}", "all on one device")
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
    epochs: int | Iterable[Any],
    batch_size: int,
    generator: Generator,
    evaluate: Callable[[Params], Mapping[str, Any] | Tensor | float] | None = None,
) -> Fit:
    """Trains for some epochs, and prints nothing; `epochs=progress(range(30))` shows how far it is.

    Args:
        step_fn: As for `train`.
        optimizer_fn: As for `train`.
        params: Where to start; left as it is.
        data: The whole data set, such as (inputs, targets); every leaf has the same leading axis.
        epochs: How often every sample is seen: a number, or an iterable that has an item for each epoch.
        batch_size: Samples per step.
        generator: Draws the order of the samples.
        evaluate: Called with the parameters after each epoch; returns numbers by name, or one number.

    Raises:
        InputError: as `train` and `minibatches`; epochs is no positive integer and no iterable of one epoch at least.
    """
    rounds = (
        epochs
        if isinstance(epochs, Iterable) and not isinstance(epochs, (str, Tensor))
        else range(check_count("epochs", epochs))
    )
    if evaluate is not None and not callable(evaluate):
        raise InputError("evaluate", describe(evaluate), "a function of the parameters")
    minibatches(data, batch_size, generator=generator)  # refuses bad data before the first step
    state: State = None
    losses: list[Tensor] = []
    epoch_ends: list[int] = []
    evaluations: dict[str, list[float]] = {}
    for _ in rounds:
        batches = minibatches(data, batch_size, generator=generator)
        for step in train(step_fn, optimizer_fn, params, batches, state=state):
            params, state, value = step
            losses.append(value)
        epoch_ends.append(len(losses))
        for name, number in _numbers(evaluate, params).items():
            evaluations.setdefault(name, []).append(number)
        if any(len(numbers) != len(epoch_ends) for numbers in evaluations.values()):
            raise InputError("evaluate(params)", f"the names {sorted(evaluations)}", "the same names after every epoch")
    if not losses:
        raise InputError("epochs", "an iterable without items", "one epoch at least")
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
