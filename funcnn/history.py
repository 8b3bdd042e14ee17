"""What happened in a training: numbers to look at."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from .types import Params, State, loadable

if TYPE_CHECKING:
    from .plots import Drawing


@loadable
class Divergence(NamedTuple):
    """Where numbers ceased to be finite: the step, counted from 0, and `place`, the first that was not.

    `place` is `batch[0]` or another leaf of the data; or a leaf of the gradient, such as `grads[0]['w']`; `value` where the
    gradient was finite and the loss was not; or where both were finite what the step made of them, such as
    `params[0]['w']` or `state.v`. `value` is the loss of the step.
    """

    step: int
    place: str
    value: float

    def __str__(self) -> str:
        """As a sentence."""
        return f"step {self.step}, counted from 0: {self.place} is not finite, and the loss is {self.value:g}"


@loadable
class History(NamedTuple):
    """What happened: `losses` (steps,), `epoch_ends` the number of steps at the end of each epoch, and `evaluations`.

    `evaluations[name]` has one number per epoch. `divergence` is None as long as all is finite.
    """

    losses: Tensor
    epoch_ends: list[int]
    evaluations: dict[str, list[float]]
    divergence: Divergence | None = None

    def plot(self) -> "Drawing":
        """The loss of every step, and the evaluations, against the steps."""
        from .plots import plot_history

        return plot_history(self.losses, self.epoch_ends, self.evaluations)

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each step, counted from 1: its `epoch` and `loss`, and evaluations where one ended.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            from pandas import DataFrame, RangeIndex
        except ImportError:
            raise ImportError("History.to_pandas: pandas is not installed, needs pip install pandas") from None
        steps = len(self.losses)
        epochs = [epoch for epoch, (start, end) in enumerate(pairwise((0, *self.epoch_ends))) for _ in range(start, end)]
        epochs += [len(self.epoch_ends)] * (steps - len(epochs))  # of the epoch that was not finished
        columns = {"epoch": [1 + epoch for epoch in epochs], "loss": self.losses.detach().cpu().double().numpy()}
        frame = DataFrame(columns, index=RangeIndex(1, steps + 1, name="step"))
        for name, numbers in self.evaluations.items():
            frame.loc[self.epoch_ends[: len(numbers)], name] = numbers
        return frame


@loadable
class Fit(NamedTuple):
    """The result of `fit`: `params` and `state` to go on from, `history` to look at."""

    params: Params
    state: State
    history: History
