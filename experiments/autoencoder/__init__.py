"""Digits through the needle's eye of a short code: an autoencoder, by momentum and by Nesterov, beside PCA.

The encoder makes k numbers of an image x, the decoder an image x' of the k numbers; both are trained to make
mean (x' - x)^2 small. Were they linear, the best within reach would be PCA, the projection onto the first k principal axes
(Baldi & Hornik, "Neural networks and principal component analysis", 1989). What they gain over it they owe to tanh.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import funcnn as fn
from experiments.autoencoder import codes
from experiments.core.options import BadOption, Training
from experiments.core.pixels import digit_pixels
from experiments.core.result import Result, Table
from experiments.core.training import Run, training_run

OPTIMIZERS = {"momentum": fn.momentum, "Nesterov": fn.nesterov}


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Training):
    """Trains autoencoders on digits by momentum and by Nesterov, and compares what their codes keep with PCA."""

    lr: float = 1.0
    epochs: int = 40
    beta: float = 0.9
    """Share of the velocity that stays from step to step, below 1."""
    hidden: int = 32
    """Tanh units between the image and the code, and between the code and the image."""
    codes: tuple[int, ...] = (2, 4, 8)
    """Sizes of the code, increasing, from 2 to 63; the first two numbers of the smallest are drawn."""

    def __post_init__(self) -> None:
        """Raises BadOption for a beta or for codes that cannot be."""
        super().__post_init__()
        if self.beta >= 1:
            raise BadOption(f"beta: got {self.beta}, needs a number below 1")
        if sorted({*self.codes} & {*range(2, 64)}) != list(self.codes) or not 1 <= len(self.codes) <= 5:
            raise BadOption(f"codes: got {self.codes}, needs one to five increasing numbers from 2 to 63")


def run(options: Autoencoder) -> Result:
    """An autoencoder of every code size by every optimizer, and PCA of as many components."""
    generator = options.generator()
    data = digit_pixels(generator=generator, **options.tensors)
    (x, _), (tests, labels) = data.train, data.test
    runs: dict[str, dict[int, Run]] = {name: {} for name in OPTIMIZERS}
    coders: dict[int, dict[str, codes.Coder]] = {}  # PCA, and the autoencoder of the last optimizer that did not diverge
    for code in options.codes:
        sizes = (64, options.hidden, code)
        layer, halves = fn.autoencoder(sizes, fn.tanh), (fn.mlp(sizes, fn.tanh), fn.mlp(sizes[::-1], fn.tanh))
        objective, start = fn.supervised(layer, fn.mean_squared_error()), layer.init(generator, **options.tensors)
        measure = partial(codes.reconstruction_losses, objective, {"loss": x, "test loss": tests})
        coders[code] = {"PCA": codes.pca(x, code)}
        for name, optimizer in OPTIMIZERS.items():
            method = optimizer(options.lr, options.beta)
            runs[name][code] = training_run(fn.explicit(objective), method, start, (x, x), measure, **options.schedule())
            if runs[name][code].diverged is None:
                coders[code]["autoencoder"] = codes.network(*halves, runs[name][code].params)
    principal = {code: (own["PCA"].loss(x), own["PCA"].loss(tests)) for code, own in coders.items()}
    parted = {name: codes.named_right(coder, data) for name, coder in coders[options.codes[0]].items()}
    rows = [[k, f"{loss:.4f}", *(by[k].outcome("test loss") for by in runs.values())] for k, (_, loss) in principal.items()]
    return Result(
        "Autoencoder: momentum against Nesterov, and both against PCA",
        f"Sizes 64, {options.hidden}, code, {options.hidden}, 64 with tanh between them, on {len(x)} digits of 8 x 8 pixels "
        f"from 0 to 1 ({len(tests)} more for testing), at lr {options.lr:g} and beta {options.beta:g}; and PCA of the same.",
        numbers={
            "runs": {name: {code: (run.curves, run.diverged) for code, run in own.items()} for name, own in runs.items()},
            "PCA": principal,
            "named right": parted,
        },
        observations=observations(runs, principal, parted),
        figures={
            "losses": codes.draw_losses(runs, principal),
            "reconstructions": codes.draw_reconstructions(coders, tests, labels),
            "code_plane": codes.draw_planes(coders[options.codes[0]], tests, labels),
        },
        tables=[Table("Test loss by the size of the code", ["code", "PCA", *runs], rows)],
    )


def observations(runs: Any, principal: Any, parted: dict[str, float]) -> list[str]:
    """What the numbers say."""
    said = []
    for code, (_, loss) in principal.items():
        ends = ", ".join(f"by {name} {own[code].outcome('test loss')}" for name, own in runs.items())
        said.append(f"With a code of {code} the test loss of PCA is {loss:.4f}; of the autoencoder: {ends}.")
        slow, fast = (own[code] for own in runs.values())
        if slow.diverged is None and fast.diverged is None:
            epochs = [str(epoch) for epoch, loss in enumerate(fast.curves["loss"]) if loss <= slow.last()] or ["none"]
            said[-1] += f" Nesterov is where momentum ends after {epochs[0]} of {len(slow.curves['loss']) - 1} epochs."
    shares = " and ".join(f"{share:.0%} ({name})" for name, share in parted.items())
    return [
        *said,
        f"With a code of {min(principal)} the nearest class mean is the right one for {shares} of the test digits.",
    ]
