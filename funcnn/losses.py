"""Losses: a number to minimise, the mean over the batch, and its gradient with respect to the network's outputs.

`forward(outputs, targets)` returns the value, of shape (), and the residuals; `backward(residuals)` returns dL/doutputs,
of the outputs' shape. Every gradient here is that of the very function above it: no epsilon stands in one of the two.
`per_sample(outputs, targets)` returns what the pair gives for each sample as a batch of one: the mean without its 1/N.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import InputError, check_number, check_same_shape, describe, in_unit_interval
from .types import Loss, Residuals

NO_LABEL = -(2**62) - 1  # nll_loss leaves one label out of the mean: not -100, its default, which may be a mistake


def _check(outputs: Tensor, targets: Tensor) -> None:
    check_same_shape("targets", targets, outputs)
    if targets.dtype != outputs.dtype:
        raise InputError("targets", targets.dtype, f"{outputs.dtype}, that of the outputs")


def _rows(x: Tensor) -> Tensor:
    """Each sample's entries in a row of their own."""
    return x.reshape(x.shape[0], -1)


def half_squared_error() -> Loss:
    """L = 1/N sum_n 1/2 |y_hat_n - y_n|^2, outputs y_hat and targets y of the same shape (N, H).

    The gradient of a sample's term is y_hat - y, hence dL/dy_hat = (y_hat - y) / N.

    Raises:
        InputError: targets of another shape or dtype than the outputs.
    """

    def forward(outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, ""], Residuals]:
        _check(outputs, targets)
        error = outputs - targets
        return 0.5 * (error * error).sum() / error.shape[0], error

    def backward(residuals: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return residuals / residuals.shape[0]

    def per_sample(outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, " N"], Tensor]:
        _check(outputs, targets)
        error = outputs - targets
        return 0.5 * _rows(error * error).sum(1), error

    return Loss(forward, backward, per_sample, lambda outputs, targets: per_sample(outputs, targets)[0])


def mean_squared_error(scale: float = 1.0) -> Loss:
    """L = S mean (y_hat - y)^2 over all N H entries, with dL/dy_hat = 2 S (y_hat - y) / (N H).

    With S = 1 it is torch.nn.MSELoss. For sgd, scaling S is scaling the learning rate.

    Raises:
        InputError: a scale below 0; targets of another shape or dtype than the outputs.
    """
    check_number("scale", scale)

    def forward(outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, ""], Residuals]:
        _check(outputs, targets)
        error = outputs - targets
        return scale * (error * error).mean(), error

    def backward(residuals: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (2 * scale / residuals.numel()) * residuals

    def per_sample(outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, " N"], Tensor]:
        _check(outputs, targets)
        error = outputs - targets
        return scale * _rows(error * error).mean(1), (2 * scale / _rows(error).shape[1]) * error

    def terms(outputs: Tensor, targets: Tensor) -> Float[Tensor, " N"]:
        _check(outputs, targets)
        error = outputs - targets
        return scale * _rows(error * error).mean(1)

    return Loss(forward, backward, per_sample, terms)


def binary_cross_entropy() -> Loss:
    """L = -mean [y log p + (1 - y) log(1 - p)], outputs p and targets y in [0, 1], of the same shape (N, H).

    With t the smallest normal number of the dtype, the logarithms are log max(p, t) and log max(1 - p, t), which is
    finite at p = 0 and p = 1. That function, and no other, has the gradient

        dL/dp = ((1 - y) [1 - p >= t] / (1 - p) - y [p >= t] / p) / (N H)

    which is (p - y) / (p (1 - p)) / (N H) wherever neither is clamped. It differs from torch.nn.BCELoss, which clamps
    the logarithms at -100 and its gradient's denominator, independently, at 1e-12.

    Raises:
        InputError: targets of another shape or dtype than the outputs; values outside [0, 1] (NaN under vmap).
    """

    def log_likelihood(p: Tensor, y: Tensor) -> Tensor:
        tiny = torch.finfo(p.dtype).tiny
        return y * p.clamp(min=tiny).log() + (1 - y) * (1 - p).clamp(min=tiny).log()

    def slope(p: Tensor, y: Tensor) -> Tensor:
        q, tiny = 1 - p, torch.finfo(p.dtype).tiny
        return (1 - y) * (q >= tiny) / q.clamp(min=tiny) - y * (p >= tiny) / p.clamp(min=tiny)

    def forward(outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, ""], Residuals]:
        _check(outputs, targets)
        p, y = in_unit_interval("outputs", outputs), in_unit_interval("targets", targets)
        return -log_likelihood(p, y).mean(), (p, y)

    def backward(residuals: tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]) -> Float[Tensor, "*shape"]:
        p, y = residuals
        return slope(p, y) / p.numel()

    def per_sample(outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, " N"], Tensor]:
        _check(outputs, targets)
        p, y = in_unit_interval("outputs", outputs), in_unit_interval("targets", targets)
        return -_rows(log_likelihood(p, y)).mean(1), slope(p, y) / _rows(p).shape[1]

    def terms(outputs: Tensor, targets: Tensor) -> Float[Tensor, " N"]:
        _check(outputs, targets)
        p, y = in_unit_interval("outputs", outputs), in_unit_interval("targets", targets)
        return -_rows(log_likelihood(p, y)).mean(1)

    return Loss(forward, backward, per_sample, terms)


def softmax_cross_entropy(clip: float | None = None) -> Loss:
    """L = -1/N sum_n log softmax(z_n)[t_n], outputs the logits z (N, C), targets the integer labels t (N,).

    From log softmax(z)_t = z_t - log sum_c exp(z_c), computed with the maximum subtracted (finite for logits of +-1e4):

        dL/dz = (softmax(z) - one_hot(t)) / N     (N, C)

    `clip=c` limits this gradient, entry by entry, to [-c, c] and leaves the value alone. What the explicit provider then
    returns is on purpose no longer the gradient of the value, which the other providers go on computing.

    Raises:
        InputError: a clip below 0; logits or labels of the wrong shape or dtype; a label outside 0 .. C-1.
    """
    if clip is not None:
        check_number("clip", clip)

    def check(outputs: Tensor, targets: Tensor) -> None:
        if outputs.ndim != 2:
            raise InputError("outputs", describe(outputs), "logits of shape (N, C)")
        if not isinstance(targets, Tensor) or targets.dtype != torch.int64 or targets.shape != outputs.shape[:1]:
            raise InputError("targets", describe(targets), f"class labels of shape ({outputs.shape[0]},) of int64")

    def entropy(outputs: Tensor, targets: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
        check(outputs, targets)
        log_p = torch.log_softmax(outputs, dim=1)
        try:
            value = torch.nn.functional.nll_loss(log_p, targets, ignore_index=NO_LABEL, reduction=reduction)
        except (IndexError, RuntimeError) as error:
            raise InputError("targets", error, f"class labels from 0 to {outputs.shape[1] - 1}") from None
        return value, log_p

    def slope(log_p: Tensor, targets: Tensor, count: int) -> Tensor:
        # softmax - one_hot, without torch's one_hot: that looks at the labels, so it halts an accelerator and a compiler
        minus_one = log_p.new_full((log_p.shape[0], 1), -1.0)
        dz = log_p.exp().scatter_add(1, targets[:, None], minus_one) / count
        return dz if clip is None else dz.clamp(-clip, clip)

    def forward(outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, ""], Residuals]:
        value, log_p = entropy(outputs, targets, "mean")
        return value, (log_p, targets)

    def backward(residuals: tuple[Float[Tensor, "N C"], Tensor]) -> Float[Tensor, "N C"]:
        log_p, targets = residuals
        return slope(log_p, targets, log_p.shape[0])

    def per_sample(outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, " N"], Float[Tensor, "N C"]]:
        values, log_p = entropy(outputs, targets, "none")
        return values, slope(log_p, targets, 1)

    def terms(outputs: Tensor, targets: Tensor) -> Float[Tensor, " N"]:
        check(outputs, targets)
        # The classes down the columns: along a last axis of 10, log_softmax takes ten times as long as along any other.
        return -torch.log_softmax(outputs.T, dim=0).gather(0, targets[None])[0]

    return Loss(forward, backward, per_sample, terms)
