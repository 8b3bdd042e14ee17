"""What most callers do with `train`: epochs over shuffled minibatches, an evaluation after each, a history to look at."""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from . import tree
from .batches import minibatches, samples
from .calls import fingerprint, made_of
from .display import Progress
from .errors import InputError, called, check_count, describe
from .finite import all_finite, first_not_finite
from .history import Fit, History
from .loop import train
from .optimizers.descent import lift_optimizer
from .purity import unharmed
from .running import Run
from .safetensors import VERSION
from .types import Batch, Params, State


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
    """Trains for some epochs, and prints nothing; `epochs=progress(range(30))` shows how far it is, and the loss.

    It ends at the first step whose loss, gradient, parameters or state are not finite, with a warning, with what there was
    before that step, and with a History that says what was first. Whatever else ends it before, Ctrl-C or an error in
    `evaluate`, is raised, and its `trained` is the Fit so far.

    With a checkpoint the same call again goes on where the file says, bit for bit as if it had never stopped, whatever ended
    it; a run that is finished returns at once. All that is drawn must come from `generator` then. More epochs may be asked
    for, and another `until`. What was trained is in the file as `load(checkpoint)["trained"]`.

    Where there are ranks of torch.distributed, all of them make this call with the same arguments, and rank 0 writes;
    `distributed.data_parallel(step_fn, share=distributed.rows)` divides the samples of a step. It may go on with more ranks
    or fewer, then with another rounding.

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
            checkpoint is that of another call, and what differs, or not the same on every rank; with one, step_fn or
            optimizer_fn draws from another generator.
        OSError: the checkpoint cannot be written.
        RankEnded: another rank ended; the checkpoint is as it was last written.
    """
    rounds, every = _rounds(epochs), _every(checkpoint_every, checkpoint)
    for name, function, what in (("evaluate", evaluate, "the parameters"), ("until", until, "the History")):
        if function is not None and not callable(function):
            raise InputError(name, describe(function), f"a function of {what}")
    minibatches(data, batch_size, generator=generator)  # refuses bad data before the first step
    train(step_fn, optimizer_fn, params, (), state=state)  # and all else
    params = tree.map(torch.Tensor.detach, params)
    start = lift_optimizer(optimizer_fn).init(params)
    run = Run(params, start if state is None else state, generator)
    names = _tried(evaluate, params, generator)
    if checkpoint is not None:
        made = {
            "checkpoint of format": VERSION,
            "params": fingerprint(params),
            "state": fingerprint(state),
            "data": fingerprint(data),
            "evaluate": names,
        }
        made |= {"batch_size": str(batch_size), "generator.initial_seed()": str(generator.initial_seed())}
        for place, part in (("step_fn", step_fn), ("optimizer_fn", optimizer_fn)):
            made |= dict(made_of(place, part, generator))
        run.kept_in(checkpoint, json.dumps(made), start)
    plan = Plan(step_fn, optimizer_fn, data, batch_size, evaluate, until, every)
    try:
        _train(run, plan, rounds)
    except BaseException as error:
        error.trained = run.trained()  # type: ignore[attr-defined]
        raise
    finally:
        if isinstance(rounds, Progress):
            rounds.close()  # or what is printed of an error would come above the bar, line by line
    if not run.steps and not run.divergence:
        raise InputError("epochs", "an iterable without items", "one epoch at least")
    if run.divergence:
        warnings.warn(f"fit ended at {run.divergence}", RuntimeWarning, stacklevel=2)
    return run.trained()


class Plan(NamedTuple):
    """What `fit` was asked for; `every` is 0 where nothing is saved between epochs."""

    step_fn: Any
    optimizer_fn: Any
    data: Batch
    batch_size: int
    evaluate: Callable[[Params], Any] | None
    until: Callable[[History], bool] | None
    every: int

    def is_over(self, run: Run) -> bool:
        """Whether no epoch is to follow."""
        if run.divergence is not None:
            return True
        return bool(self.until and run.epoch_ends and called("until(history)", self.until, run.trained().history))


def _train(run: Run, plan: Plan, rounds: Iterable[Any]) -> None:
    """Epoch after epoch, those that are left."""
    for _ in islice(rounds, len(run.epoch_ends), None) if not plan.is_over(run) else ():
        _train_epoch(run, plan, rounds)
        if not run.divergence:
            run.end_epoch(_numbers(plan.evaluate, run.params))
        run.save()
        if plan.is_over(run):
            return


def _train_epoch(run: Run, plan: Plan, rounds: Iterable[Any]) -> None:
    """The steps that are left of an epoch; it ends before one that leads to numbers that are not finite."""
    last: list[Batch] = []
    batches = run.batches(lambda: minibatches(plan.data, plan.batch_size, generator=run.generator))
    steps = train(plan.step_fn, plan.optimizer_fn, run.params, _remembered(batches, last), state=run.state)
    if isinstance(rounds, Progress):
        steps = rounds.inside(steps, -(-samples(plan.data) // plan.batch_size) - run.done)
    for step in steps:
        if not all_finite(step):
            run.divergence = first_not_finite(plan.step_fn, run.params, run.state, last[0], step, run.steps)
            if run.divergence:
                return
        run.add(step)
        if plan.every and run.steps % plan.every == 0:
            run.save()


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


def _rounds(epochs: Any) -> Iterable[Any]:
    """An item for each epoch. Raises InputError unless it is a number of them or has such items."""
    many = isinstance(epochs, Iterable) and not isinstance(epochs, str) and getattr(epochs, "ndim", None) != 0
    return epochs if many else range(check_count("epochs", epochs))


def _every(checkpoint_every: int | None, checkpoint: Any) -> int:
    """After how many steps to save, 0 for never. Raises InputError where there is no file to save in."""
    if checkpoint_every is None:
        return 0
    if checkpoint is None:
        raise InputError("checkpoint_every", checkpoint_every, "a checkpoint, such as checkpoint='run.safetensors'")
    return check_count("checkpoint_every", checkpoint_every)


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
    result = unharmed("evaluate(params)", evaluate, params)
    named = result if isinstance(result, Mapping) else {"evaluation": result}
    try:
        return {name: float(number) for name, number in named.items()}
    except (TypeError, ValueError, RuntimeError):
        raise InputError("evaluate(params)", describe(result), "a number, or a mapping of names to numbers") from None
