"""What most callers do with `train`: epochs over shuffled minibatches, an evaluation after each, a history to look at."""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Samples

from . import tree
from .batches import rows, tensors
from .calls import fingerprint, made_of
from .data import Dataset
from .errors import InputError, check_batch, check_count, check_generator, describe
from .finite import all_finite, first_not_finite
from .history import Fit, History
from .loop import train
from .optimizers.descent import lift_optimizer
from .running import Run
from .types import Batch, Params, State

# What is no data, and what to hand over instead.
INSTEAD: dict[type, str] = {
    DataLoader: "tensors, such as default_collate([*loader.dataset]); `train` takes the loader itself, an epoch a call",
    Samples: "tensors, such as torch.utils.data.default_collate([*dataset])",
    Dataset: "the part to learn from, data.train",
}


def minibatches(data: Batch, batch_size: int, *, generator: Generator) -> Iterator[Batch]:
    """One epoch: every sample once, in a random order drawn from the generator, the last batch short where it must be.

    A list or tuple of strings or numbers has one for each sample, and goes with them; one by itself is in every batch.

    Raises:
        InputError: batch_size is no positive integer; empty data, or leaves that disagree on N.
    """
    batch_size = check_count("batch_size", batch_size)
    for kind, needs in INSTEAD.items():
        if isinstance(data, kind):
            raise InputError("data", f"a {type(data).__name__}", needs)
    leaves = check_batch(data)
    check_generator(generator)
    if not leaves:
        raise InputError("data", describe(data), "at least one tensor")
    if len(devices := {str(leaf.device) for leaf in leaves}) > 1:
        raise InputError("data", f"tensors on {' and '.join(sorted(devices))}", "all on one device")
    return _shuffled(data, batch_size, generator)


def _shuffled(data: Batch, batch_size: int, generator: Generator) -> Iterator[Batch]:
    first, *_ = tensors(data)[0]
    order = torch.randperm(len(first), generator=generator, device=generator.device).to(first.device)
    for chosen in order.split(batch_size):
        yield rows(data, chosen)


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
    state: State = None,
    until: Callable[[History], bool] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
) -> Fit:
    """Trains for some epochs, and prints nothing; `epochs=progress(range(30))` shows how far it is.

    It ends at the first step whose loss, gradient, parameters or state are not finite, with a warning, with what there was
    before that step, and with a History that says what was first. Whatever else ends it before, Ctrl-C or an error in
    `evaluate`, is raised, and its `trained` is the Fit so far.

    With a checkpoint the same call again goes on where the file says, bit for bit as if it had never stopped, whatever ended
    it; a run that is finished returns at once. All that is drawn must come from `generator` then. More epochs may be asked
    for, and another `until`. What was trained is in the file as `load(checkpoint)["trained"]`.

    Args:
        step_fn: As for `train`.
        optimizer_fn: As for `train`.
        params: Where to start; left as it is.
        data: The whole data set, such as (inputs, targets); every leaf has the same leading axis.
        epochs: How often every sample is seen: a number, or an iterable that has an item for each epoch.
        batch_size: Samples per step.
        generator: Draws the order of the samples.
        evaluate: Called with the parameters after each epoch; returns numbers by name, or one number. It is tried before
            the first step.
        state: The optimizer's state to go on from, such as that of an earlier Fit; None begins anew.
        until: Called with the History after each epoch; true ends it, as `patience(5)` does.
        checkpoint: A file that is written at the start, after each epoch and at the end.
        checkpoint_every: Write it after so many steps, too.

    Raises:
        InputError: as `train` and `minibatches`; epochs is no positive integer and no iterable of one epoch at least; the
            checkpoint is that of another call, and what differs.
        OSError: the checkpoint cannot be written.
    """
    rounds = epochs if isinstance(epochs, Iterable) and not isinstance(epochs, str) else range(check_count("epochs", epochs))
    for name, function, what in (("evaluate", evaluate, "the parameters"), ("until", until, "the History")):
        if function is not None and not callable(function):
            raise InputError(name, describe(function), f"a function of {what}")
    every = check_count("checkpoint_every", checkpoint_every) if checkpoint_every is not None else 0
    if every and checkpoint is None:
        raise InputError("checkpoint_every", every, "a checkpoint, such as checkpoint='run.safetensors'")
    minibatches(data, batch_size, generator=generator)  # refuses bad data before the first step
    train(step_fn, optimizer_fn, params, (), state=state)  # and all else
    params = tree.map(torch.Tensor.detach, params)
    start = lift_optimizer(optimizer_fn).init(params)
    run = Run(params, start if state is None else state, generator)
    names = _tried(evaluate, params, generator)
    call = ""
    if checkpoint is not None:
        made = {"params": fingerprint(params), "state": fingerprint(state), "data": fingerprint(data), "evaluate": names}
        made |= {"batch_size": str(batch_size), "generator.initial_seed()": str(generator.initial_seed())}
        made |= {**dict(made_of("step_fn", step_fn)), **dict(made_of("optimizer_fn", optimizer_fn))}
        call = json.dumps(made)
        run.resume(checkpoint, call, start)
        run.save(checkpoint, call)  # what cannot be written is known before the work

    def over() -> bool:
        return run.divergence is not None or bool(until and run.epoch_ends and until(run.trained().history))

    try:
        for _ in islice(rounds, len(run.epoch_ends), None) if not over() else ():
            last: list[Batch] = []
            batches = _remembered(run.batches(lambda: minibatches(data, batch_size, generator=generator)), last)
            for step in train(step_fn, optimizer_fn, run.params, batches, state=run.state):
                if not all_finite(step):
                    run.divergence = first_not_finite(step_fn, run.params, run.state, last[0], step, run.steps)
                    if run.divergence:
                        break
                run.add(step)
                if every and run.steps % every == 0 and checkpoint is not None:
                    run.save(checkpoint, call)
            if not run.divergence:
                run.end_epoch(_numbers(evaluate, run.params))
            if checkpoint is not None:
                run.save(checkpoint, call)
            if over():
                break
    except BaseException as error:
        error.trained = run.trained()  # type: ignore[attr-defined]
        raise
    if not run.steps and not run.divergence:
        raise InputError("epochs", "an iterable without items", "one epoch at least")
    if run.divergence:
        warnings.warn(f"fit ended at {run.divergence}", RuntimeWarning, stacklevel=2)
    return run.trained()


def patience(
    epochs: int, name: str = "evaluation", best: Callable[[Iterable[float]], float] = min
) -> Callable[[History], bool]:
    """For `fit(..., until=patience(5))`: whether the best evaluation of that name is so many epochs old.

    `best` is min or max. NaN is never the best.

    Raises:
        InputError: epochs is no positive integer; (in `fit`) there is no evaluation of that name.
    """
    epochs = check_count("epochs", epochs)

    def until(history: History) -> bool:
        if name not in history.evaluations:
            raise InputError(
                "patience(name)", describe(name), f"one of {sorted(history.evaluations)}, what evaluate returns"
            )
        numbers = history.evaluations[name]
        known = [number for number in numbers if number == number]
        since = len(numbers) - 1 - numbers.index(best(known)) if known else len(numbers)
        return since >= epochs

    return until


def _remembered(batches: Iterable[Batch], last: list[Batch]) -> Iterator[Batch]:
    """The same batches; `last` has the one of the present step."""
    for batch in batches:
        last[:] = [batch]
        yield batch


def _tried(evaluate: Callable[[Params], Any] | None, params: Params, generator: Generator) -> str:
    """The names of what an evaluation returns, found before the first step; the generator is left as it was."""
    before = generator.get_state()
    names = ", ".join(sorted(_numbers(evaluate, params)))
    generator.set_state(before)
    return names


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
