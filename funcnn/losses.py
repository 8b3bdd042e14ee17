"""Losses: a number to minimise, the mean over the batch, and its gradient with respect to the network's outputs.

A loss is the mean of a term for each sample, so it is given by two rules: `terms(outputs, targets)`, the values (N,), and
`slopes(residuals)`, the gradient of each sample's term with respect to its outputs. `mean` makes the loss of them:

    L = 1/N sum_n l(y_n, t_n)        dL/dy_n = 1/N dl/dy_n

Every gradient here is that of the very function above it: no epsilon stands in one of the two.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Inexact
from torch import Tensor

from .errors import InputError, check_number, check_same_shape, describe, in_unit_interval
from .types import Known, Loss, Residuals

Forward: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Residuals]]

NO_LABEL = -(2**62) - 1  # nll_loss leaves one label out of the mean: not -100, its default, which may be a mistake


def _inexact(x: Tensor) -> bool:
    """Whether the entries are floating, or complex as in a complex step."""
    return x.is_floating_point() or x.is_complex()


def _check(outputs: Tensor, targets: Tensor) -> None:
    if not _inexact(outputs) or not outputs.ndim:
        raise InputError("outputs", describe(outputs), "a floating tensor with a leading axis N")
    check_same_shape("targets", targets, outputs)
    if targets.dtype != outputs.dtype:
        raise InputError("targets", targets.dtype, f"{outputs.dtype}, that of the outputs")


def _rows(x: Tensor) -> Tensor:
    """Each sample's entries in a row of their own."""
    return x.reshape(x.shape[0], -1)


def _safe_log(p: Tensor) -> Tensor:
    """The logarithm log max(p, t) that stays finite at 0; of complex numbers, which have no order, log p."""
    return (p if p.is_complex() else p.clamp(min=torch.finfo(p.dtype).tiny)).log()


def mean(
    terms: Forward, slopes: Callable[[Residuals], Tensor], clip: float | None = None, forward: Forward | None = None
) -> Loss:
    """The loss that is the mean of the terms.

    `clip` limits its gradient, and that of each term, to [-clip, clip]; `forward` takes the mean where torch can do so in
    the same operation.
    """

    def mean_of_terms(outputs: Tensor, targets: Tensor) -> tuple[Inexact[Tensor, ""], Residuals]:
        values, residuals = terms(outputs, targets)
        return values.mean(), residuals

    forward = forward or mean_of_terms

    def limited(doutputs: Tensor) -> Tensor:
        return doutputs if clip is None else doutputs.clamp(-clip, clip)

    def backward(residuals: Residuals) -> Float[Tensor, "*shape"]:
        doutputs = slopes(residuals)
        return limited(doutputs / doutputs.shape[0])

    facts = {"terms": terms, "slopes": lambda residuals: limited(slopes(residuals))}
    return Loss(forward, backward, Known((forward, backward), facts))


def half_squared_error() -> Loss:
    """L = 1/N sum_n 1/2 |y_hat_n - y_n|^2, outputs y_hat and targets y of the same shape (N, H).

    The gradient of a sample's term is y_hat - y, hence dL/dy_hat = (y_hat - y) / N.

    Raises:
        InputError: targets of another shape or dtype than the outputs.
    """

    def terms(outputs: Tensor, targets: Tensor) -> tuple[Inexact[Tensor, " N"], Inexact[Tensor, "*shape"]]:
        _check(outputs, targets)
        error = outputs - targets
        return 0.5 * _rows(error * error).sum(1), error

    return mean(terms, lambda error: error)


def mean_squared_error(scale: float = 1.0) -> Loss:
    """L = S mean (y_hat - y)^2 over all N H entries, with dL/dy_hat = 2 S (y_hat - y) / (N H).

    With S = 1 it is torch.nn.MSELoss. For sgd, scaling S is scaling the learning rate.

    Raises:
        InputError: a scale below 0; targets of another shape or dtype than the outputs.
    """
    check_number("scale", scale)

    def terms(outputs: Tensor, targets: Tensor) -> tuple[Inexact[Tensor, " N"], Inexact[Tensor, "*shape"]]:
        _check(outputs, targets)
        error = outputs - targets
        return scale * _rows(error * error).mean(1), error

    def slopes(error: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (2 * scale / error[0].numel()) * error

    return mean(terms, slopes)


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

    def entropy(outputs: Tensor, targets: Tensor) -> tuple[Inexact[Tensor, "*shape"], Residuals]:
        _check(outputs, targets)
        p, y = in_unit_interval("outputs", outputs), in_unit_interval("targets", targets)
        q = 1 - p
        # lerp(a, b, y) = (1 - y) a + y b
        return torch.lerp(_safe_log(q), _safe_log(p), y).neg(), (p, q, y)

    def terms(outputs: Tensor, targets: Tensor) -> tuple[Inexact[Tensor, " N"], Residuals]:
        values, residuals = entropy(outputs, targets)
        return _rows(values).mean(1), residuals

    def forward(outputs: Tensor, targets: Tensor) -> tuple[Inexact[Tensor, ""], Residuals]:
        values, residuals = entropy(outputs, targets)
        return values.mean(), residuals

    def slopes(residuals: tuple[Tensor, Tensor, Tensor]) -> Float[Tensor, "*shape"]:
        p, q, y = residuals
        tiny = torch.finfo(p.dtype).tiny
        dp = (1 - y) * (q >= tiny) / q.clamp(min=tiny) - y * (p >= tiny) / p.clamp(min=tiny)
        return dp / p[0].numel()

    return mean(terms, slopes, forward=forward)


def softmax_cross_entropy(clip: float | None = None) -> Loss:
    """L = -1/N sum_n log softmax(z_n)[t_n], outputs the logits z (N, C), targets the integer labels t (N,).

    From log softmax(z)_t = z_t - log sum_c exp(z_c), computed with the maximum subtracted (finite for logits of +-1e4):

        dL/dz = (softmax(z) - one_hot(t)) / N     (N, C)

    `clip=c` limits this gradient, entry by entry, to [-c, c] and leaves the value alone. What the explicit provider then
    returns is on purpose no longer the gradient of the value, which the other providers go on computing. Per sample, the
    gradient of each sample's own loss is clipped.

    Raises:
        InputError: a clip below 0; logits or labels of the wrong shape or dtype; a label outside 0 .. C-1.
    """
    if clip is not None:
        check_number("clip", clip)

    def log_likelihood(outputs: Tensor, targets: Tensor, reduction: str) -> tuple[Tensor, Residuals]:
        if outputs.ndim != 2 or not _inexact(outputs):
            raise InputError("outputs", describe(outputs), "logits of shape (N, C)")
        if not isinstance(targets, Tensor) or targets.dtype != torch.int64 or targets.shape != outputs.shape[:1]:
            raise InputError("targets", describe(targets), f"class labels of shape ({outputs.shape[0]},) of int64")
        # Down the columns of the transpose: along a short last axis torch's log_softmax takes up to ten times as long.
        log_p = torch.log_softmax(outputs.T, dim=0).T
        try:
            return F.nll_loss(log_p, targets, ignore_index=NO_LABEL, reduction=reduction), (log_p, targets)
        except (IndexError, RuntimeError) as error:
            raise InputError("targets", error, f"class labels from 0 to {outputs.shape[1] - 1}") from None

    def slopes(residuals: tuple[Float[Tensor, "N C"], Tensor]) -> Float[Tensor, "N C"]:
        log_p, targets = residuals
        # softmax - one_hot, without torch's one_hot: that looks at the labels, so it halts an accelerator and a compiler
        minus_one = log_p.new_full((log_p.shape[0], 1), -1.0)
        return log_p.exp().scatter_add(1, targets[:, None], minus_one)

    return mean(partial(log_likelihood, reduction="none"), slopes, clip, forward=partial(log_likelihood, reduction="mean"))
