"""Cross entropy with its gradient clipped: a rule that is on purpose not the derivative of its value.

With p = softmax(z) the gradient of one sample's loss is p - one_hot(t), whose entries lie in [-1, 1]. In the mean over N
samples they are divided by N, so a clip to [-1, 1] never binds; nor does it in the sum. What binds is a limit c < 1 on
the entries of the sum, which is a limit c/N on those of the mean.
"""

from dataclasses import dataclass
from typing import Any

import funcnn as fn
from experiments.clipped_loss import presentation
from experiments.clipped_loss.rules import classic_difference, slopes, summed, transformed_difference
from experiments.core.curves import convergence
from experiments.core.options import Training
from experiments.core.result import Result
from experiments.core.training import Run, digits_task


@dataclass(frozen=True, kw_only=True)
class ClippedLoss(Training):
    """Trains on digits with the gradient of the cross entropy clipped at the logits, from not at all to nearly all of it."""

    hidden: int = 32
    """ReLU units in the hidden layer."""
    clips: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
    """Limits on the gradient's entries in the summed loss; for the mean each is divided by the samples of a batch."""


def run(options: ClippedLoss) -> Result:
    """Entries of the gradient against the batch size, training for each limit, and the same rule in a classic loop."""
    task, n, lr = digits_task(options, options.hidden), options.batch_size, options.lr
    largest = {count: slopes(task, task.start, count).max().item() for count in (2**power for power in range(9))}
    samples = len(task.data.train[0])

    def train(clip: float, loss: fn.Loss, lr: float) -> Run:
        def share(params: Any) -> dict[str, float]:
            return {"clipped": (samples * slopes(task, params) > clip).double().mean().item()}

        return task.run(fn.sgd(lr), loss=loss, measure=share)

    plain = task.run(fn.sgd(lr))
    one = train(1.0, fn.softmax_cross_entropy(1.0), lr)
    means = {clip: train(clip, fn.softmax_cross_entropy(clip / n), lr) for clip in options.clips}
    sums = {clip: train(clip, summed(clip), lr / n) for clip in options.clips}
    never = fn.tree.max_difference(one.params, plain.params).item()
    forms = [difference(task, min(options.clips) / n) for difference in (classic_difference, transformed_difference)]
    runs = {"not clipped": plain} | {f"c = {clip:g}": run for clip, run in means.items()}
    return Result(
        "Clipped cross entropy: a gradient that is not the derivative",
        f"Sizes 64, {options.hidden}, 10 with ReLU on digits, batches of N = {n}, lr = {lr:g}. Entries of the gradient are "
        "limited to $c/N$ in the mean loss, and to $c$ in the summed one, which is trained with $lr/N$.",
        numbers={
            "largest entry": largest,
            "difference at clip 1": never,
            "classic loop": forms[0],
            "vmap(grad)": forms[1],
            "mean": {name: run.curves for name, run in runs.items()},
            "sum": {clip: run.curves for clip, run in sums.items()},
        },
        observations=presentation.observations(largest, never, plain, means, sums, forms),
        figures={"convergence": convergence(runs), "clips": presentation.clips(largest, means, sums)},
        tables=[presentation.table(means, sums)],
    )
