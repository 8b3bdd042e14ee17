"""What a batch hides: the gradient of each of its samples, by every provider, and which samples pull hardest.

The gradient of a mean is the mean of the gradients, g = 1/N sum_n g_n, and torch.func.vmap over batches of one makes every
provider give the g_n. An untrained network hears all samples about equally. A trained one is at rest with most of them, and
the few that it names wrong, or nearly so, make most of the gradient.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

import funcnn as fn
from experiments.core.options import Training
from experiments.core.pixels import digit_pixels
from experiments.core.result import Result, Table
from experiments.core.training import classification, training_run
from experiments.per_sample import gradients


@dataclass(frozen=True, kw_only=True)
class PerSample(Training):
    """Takes the gradient of every sample by every provider, and shows which samples have the largest."""

    lr: float = 0.5
    epochs: int = 10
    hidden: int = 16
    """Tanh units in the hidden layer: complex steps need an activation that is analytic."""
    samples: int = 48
    """Samples whose gradients are taken by every provider; the norms are of all."""


def run(options: PerSample) -> Result:
    """Each sample's gradient by every provider, and the norms of all before and after training."""
    generator = options.generator()
    data = digit_pixels(generator=generator, **options.tensors)
    layer, loss = fn.mlp((64, options.hidden, 10), fn.tanh), fn.softmax_cross_entropy()
    objective, start = fn.supervised(layer, loss), layer.init(generator, **options.tensors)
    explicit, measure = fn.explicit(objective), classification(layer, loss, data)
    trained = training_run(explicit, fn.sgd(options.lr), start, data.train, measure, **options.schedule())
    batch = tuple(leaf[: options.samples] for leaf in data.train)
    title = "Per sample: the gradients that a batch is the mean of"
    about = (
        f"Sizes 64, {options.hidden}, 10 with tanh, on {len(data.train[0])} digits, before and after {options.epochs} "
        f"epochs of gradient descent at lr {options.lr:g}; the first {len(batch[0])} digits by every provider, under vmap."
    )
    if trained.diverged is not None:
        return Result(title, about, {"diverged": trained.diverged}, [f"The training {trained.outcome()}."])
    params = trained.params
    # A plain function is vmapped; for explicit itself per_sample knows a way in one pass.
    ways: dict[str, Any] = {name: provider(objective).value_and_grad for name, provider in fn.PROVIDERS.items()}
    ways["explicit, one pass"] = explicit
    each = {name: fn.per_sample(way)(params, batch)[1] for name, way in ways.items()}
    means = {name: gradients.mean_error(each[name], way(params, batch)[1]) for name, way in ways.items()}
    errors = {name: gradients.relative_errors(own, each["func_grad"]) for name, own in each.items()}
    norms = {at: fn.per_sample_norms(explicit)(p, data.train) for at, p in (("untrained", start), ("trained", params))}
    named = fn.apply(layer, params, data.train[0]).argmax(1)
    wrong = named != data.train[1]
    rows = [[name, f"{means[name]:.1e}", f"{own.median():.1e}", f"{own.max():.1e}"] for name, own in errors.items()]
    heads = ["provider", "mean, from the batch's gradient", "each sample's, from func_grad: median", "largest"]
    return Result(
        title,
        about,
        numbers={
            "mean from batch": means,
            "each from func_grad": {name: own.tolist() for name, own in errors.items()},
            "norms": {name: own.tolist() for name, own in norms.items()},
            "wrong": wrong.tolist(),
        },
        observations=observations(means, errors["explicit, one pass"], norms, wrong),
        figures={
            "norms": gradients.draw_norms(norms),
            "ends": gradients.draw_ends(*data.train, named, norms["trained"]),
            "errors": gradients.draw_errors(errors["explicit, one pass"], fn.tree.paths(params)),
        },
        tables=[Table("Relative errors, each over the largest entry of its leaf", heads, rows)],
    )


def observations(means: dict[str, float], exact: Tensor, norms: dict[str, Tensor], wrong: Tensor) -> list[str]:
    """What the numbers say."""
    farthest = max(means, key=lambda name: means[name])
    before, after = (gradients.share_of_tenth(own) for own in norms.values())
    top = norms["trained"].topk(gradients.DRAWN).indices
    return [
        f"The mean of {len(exact)} samples' gradients is the gradient of their batch, to {means['func_grad']:.1e} by "
        f"func_grad, and to {means[farthest]:.1e} by {farthest}, where it is farthest of {len(means)}.",
        f"explicit, all samples in one pass, and func_grad under vmap agree to {exact.max():.1e} in every leaf of each.",
        f"The tenth of the samples with the largest gradients has {before:.0%} of the sum of all norms before training and "
        f"{after:.0%} after.",
        f"Of the {len(top)} samples with the largest gradients the trained network names {int(wrong[top].sum())} wrong, and "
        f"{int(wrong.sum())} of all {len(wrong)}.",
    ]
