"""What happened in a training: numbers to look at."""

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

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

        return plot_history(self.losses, self.epoch_ends, self.evaluations)
