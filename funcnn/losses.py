"""Losses: a number to minimise, the mean over the batch, and its gradient with respect to the network's outputs.

A loss is the mean of a term for each sample, so it is given by two rules: `terms(outputs, targets)`, the values (N,), and
`slopes(residuals)`, the gradient of each sample's term with respect to its outputs. `Mean` and `MeanSlopes` make of them

    L = 1/N sum_n l(y_n, t_n)        dL/dy_n = 1/N dl/dy_n

Every gradient here is that of the very function above it: no epsilon stands in one of the two. The rules are bare; what
does not fit is refused at the door of the loss, `Mean`, and there values are looked at too, where they can be.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Inexact
from torch import Tensor

from . import kernels
from .errors import InputError, check_number, check_same_shape, describe, is_dense
from .layers.guarded import are_numbers
from .refusals import refused_by_torch
from .types import Loss, Residuals

Terms: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Residuals]]
Slopes: TypeAlias = Callable[[Residuals], Tensor]
Check: TypeAlias = Callable[[Tensor, Tensor], None]

NO_LABEL = -(2**62) - 1  # nll_loss leaves one label out of the mean: not -100, its default, which may be a mistake


class Mean(NamedTuple):
    """The forward rule of a loss that is the mean of terms: (outputs, targets) -> (value, residuals).

    terms   (outputs, targets) -> (values (N,), residuals)
    fit     refuses operands of the wrong shape or dtype
    accept  refuses values; asked where values can be looked at
    whole   the mean of the terms, where torch can take it in the same operation
    title   what the loss prints as
    """

    terms: Terms
    fit: Check | None = None
    accept: Check | None = None
    whole: Terms | None = None
    title: str = "Mean(...)"

    def each(self, outputs: Tensor, targets: Tensor) -> tuple[Float[Tensor, " N"], Residuals]:
        """The terms, of operands that were looked at."""
        return self._checked(self.terms, outputs, targets)

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Inexact[Tensor, ""], Residuals]:
        """The mean, of operands that were looked at."""
        if self.whole is not None:
            return self._checked(self.whole, outputs, targets)
        values, residuals = self._checked(self.terms, outputs, targets)
        return values.mean(), residuals

    def _checked(self, rule: Terms, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Residuals]:
        if self.fit is not None:
            self.fit(outputs, targets)
        if self.accept is not None and not kernels.under_transform():
            self.accept(outputs, targets)
        try:
            return rule(outputs, targets)
        except RuntimeError as error:
            raise refused_by_torch(f"operands of {self!r}", error) or error from None

    def __repr__(self) -> str:
        """What made it."""
        return self.title


class MeanSlopes(NamedTuple):
    """The pullback of such a loss, residuals -> dL/doutputs.

    slopes  residuals -> the gradient of each sample's term, row n what sample n alone would give
    clip    the bound of this gradient, and of each term's
    """

    slopes: Slopes
    clip: float | None = None
    title: str = "Mean(...)"

    def each(self, residuals: Residuals) -> Float[Tensor, "*shape"]:
        """The gradients of the terms."""
        doutputs = self.slopes(residuals)
        return doutputs if self.clip is None else doutputs.clamp(-self.clip, self.clip)

    def __call__(self, residuals: Residuals) -> Float[Tensor, "*shape"]:
        """The gradient of the mean."""
        doutputs = self.slopes(residuals)
        doutputs = doutputs / doutputs.shape[0]
        return doutputs if self.clip is None else doutputs.clamp(-self.clip, self.clip)

    def __repr__(self) -> str:
        """What made it."""
        return self.title


def _alike(outputs: Tensor, targets: Tensor) -> None:
    """Outputs and targets of one shape, dtype and device."""
    if not is_dense(outputs) or not are_numbers({outputs.dtype}) or not outputs.ndim or not outputs.numel():
        raise InputError("outputs", describe(outputs), "a floating tensor with a leading axis N, and entries")
    check_same_shape("targets", targets, outputs)
    if targets.dtype != outputs.dtype:
        raise InputError("targets", targets.dtype, f"{outputs.dtype}, that of the outputs")
    _on_one_device(outputs, targets)


def _classes(outputs: Tensor, targets: Tensor) -> None:
    """Logits (N, ..., C) and labels (N, ...)."""
    if not is_dense(outputs) or not are_numbers({outputs.dtype}) or outputs.ndim < 2 or not outputs.numel():
        raise InputError("outputs", describe(outputs), "logits of shape (N, ..., C), and entries")
    if not is_dense(targets) or targets.dtype != torch.int64 or targets.shape != outputs.shape[:-1]:
        raise InputError("targets", describe(targets), f"class labels of shape {tuple(outputs.shape[:-1])} of int64")
    _on_one_device(outputs, targets)


def _on_one_device(outputs: Tensor, targets: Tensor) -> None:
    if targets.device != outputs.device:
        raise InputError("targets", f"a tensor on {targets.device}", f"one on {outputs.device}, where the outputs are")


def check_labels(outputs: Tensor, targets: Tensor) -> None:
    """Raises InputError unless every label is one of the classes of the outputs (N, ..., C)."""
    smallest, largest = torch.aminmax(targets)
    if smallest < 0 or largest >= outputs.shape[-1]:
        wrong = smallest if smallest < 0 else largest
        raise InputError("targets", f"the label {int(wrong)}", f"class labels from 0 to {outputs.shape[-1] - 1}")


def _probabilities(outputs: Tensor, targets: Tensor) -> None:
    for place, x in (("outputs", outputs), ("targets", targets)):
        smallest, largest = torch.aminmax(x)
        if not (0 <= smallest and largest <= 1):
            raise InputError(place, f"values from {smallest:g} to {largest:g}", "values from 0 to 1")


def _rows(x: Tensor) -> Tensor:
    """Each sample's entries in a row of their own."""
    return x.reshape(x.shape[0], -1)


def half_squared_error() -> Loss:
    """L = 1/N sum_n 1/2 |y_hat_n - y_n|^2, outputs y_hat and targets y of the same shape (N, H).

    The gradient of a sample's term is y_hat - y, hence dL/dy_hat = (y_hat - y) / N.

    Raises:
        InputError: targets of another shape or dtype than the outputs.
    """

    def terms(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        error = outputs - targets
        return 0.5 * _rows(error * error).sum(1), error

    title = "half_squared_error()"
    return Loss(Mean(terms, _alike, title=title), MeanSlopes(lambda error: error, title=title))


def mean_squared_error(scale: float = 1.0) -> Loss:
    """L = S mean (y_hat - y)^2 over all N H entries, with dL/dy_hat = 2 S (y_hat - y) / (N H).

    With S = 1 it is torch.nn.MSELoss. For sgd, scaling S is scaling the learning rate.

    Raises:
        InputError: a scale below 0; targets of another shape or dtype than the outputs.
    """
    scale = check_number("scale", scale)

    def terms(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        error = outputs - targets
        return scale * _rows(error * error).mean(1), error

    def slopes(error: Tensor) -> Tensor:
        return (2 * scale / error[0].numel()) * error

    title = f"mean_squared_error({scale:g})"
    return Loss(Mean(terms, _alike, title=title), MeanSlopes(slopes, title=title))


def binary_cross_entropy() -> Loss:
    """L = -mean [y log p + (1 - y) log(1 - p)], outputs p and targets y in [0, 1], of the same shape (N, H).

    With t the smallest normal number of the dtype, the logarithms are log max(p, t) and log max(1 - p, t), which is
    finite at p = 0 and p = 1. That function, and no other, has the gradient

        dL/dp = ((1 - y) [1 - p >= t] / (1 - p) - y [p >= t] / p) / (N H)

    which is (p - y) / (p (1 - p)) / (N H) wherever neither is clamped. Outside [0, 1] there is no value but NaN. It differs
    from torch.nn.BCELoss, which clamps the logarithms at -100 and its gradient's denominator, independently, at 1e-12.

    Raises:
        InputError: targets of another shape or dtype than the outputs; values outside [0, 1] (NaN under a transform).
    """

    def probability(x: Tensor) -> Tensor:
        return x if x.is_complex() else torch.where((x >= 0) & (x <= 1), x, torch.nan)

    def log(p: Tensor) -> Tensor:  # complex numbers have no order; a complex step is taken where p is not clamped
        return (p if p.is_complex() else p.clamp(min=torch.finfo(p.dtype).tiny)).log()

    def entropy(p: Tensor, y: Tensor) -> tuple[Tensor, Residuals]:
        q = 1 - p
        return torch.lerp(log(q), log(p), y).neg(), (p, q, y)  # lerp(a, b, y) = (1 - y) a + y b

    def terms(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Residuals]:
        values, residuals = entropy(probability(outputs), probability(targets))
        return _rows(values).mean(1), residuals

    def whole(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Residuals]:
        if kernels.under_transform():  # else the door has looked at them
            outputs, targets = probability(outputs), probability(targets)
        values, residuals = entropy(outputs, targets)
        return values.mean(), residuals

    def slopes(residuals: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        p, q, y = residuals
        tiny = torch.finfo(p.dtype).tiny
        dp = (1 - y) * (q >= tiny) / q.clamp(min=tiny) - y * (p >= tiny) / p.clamp(min=tiny)
        return dp / p[0].numel()

    title = "binary_cross_entropy()"
    return Loss(Mean(terms, _alike, _probabilities, whole, title), MeanSlopes(slopes, title=title))


def softmax_cross_entropy(clip: float | None = None) -> Loss:
    """L = -1/N sum_n log softmax(z_n)[t_n], outputs the logits z (N, C), targets the integer labels t (N,).

    From log softmax(z)_t = z_t - log sum_c exp(z_c), computed with the maximum subtracted (finite for logits of +-1e4):

        dL/dz = (softmax(z) - one_hot(t)) / N     (N, C)

    On tokens, z (N, T, C) and t (N, T), the term of a sample is the mean over its tokens: L is that over all N T.

    `clip=c` limits this gradient, entry by entry, to [-c, c] and leaves the value alone. What the explicit provider then
    returns is on purpose no longer the gradient of the value, which the other providers go on computing. Per sample, the
    gradient of each sample's own loss is clipped.

    Raises:
        InputError: a clip below 0; logits or labels of the wrong shape or dtype; a label outside 0 .. C-1.
    """
    clip = None if clip is None else check_number("clip", clip)

    def log_likelihood(outputs: Tensor, targets: Tensor, reduction: str) -> tuple[Tensor, Residuals]:
        # Down the columns of the transpose: along a short last axis torch's log_softmax takes up to ten times as long.
        log_p = torch.log_softmax(outputs.flatten(0, -2).T, dim=0).T
        try:
            value = F.nll_loss(log_p, targets.flatten(), ignore_index=NO_LABEL, reduction=reduction)
        except (IndexError, RuntimeError):  # it looks at the labels by itself, at no cost
            check_labels(outputs, targets)
            raise
        return value, (log_p.reshape(outputs.shape), targets)

    def terms(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Residuals]:
        values, residuals = log_likelihood(outputs, targets, "none")
        return values.reshape(len(targets), -1).mean(1), residuals

    def accept(outputs: Tensor, targets: Tensor) -> None:
        if not outputs.is_cpu:  # where a wrong label would end the process
            check_labels(outputs, targets)

    def slopes(residuals: tuple[Tensor, Tensor]) -> Tensor:
        log_p, targets = residuals
        # softmax - one_hot, without torch's one_hot: that looks at the labels, so it halts an accelerator and a compiler
        minus_one = log_p.new_full((*targets.shape, 1), -1.0)
        errors = log_p.exp().scatter_add(-1, targets[..., None], minus_one)
        return errors if targets.ndim == 1 else errors / targets[0].numel()

    title = f"softmax_cross_entropy({'' if clip is None else f'clip={clip:g}'})"
    whole = partial(log_likelihood, reduction="mean")
    return Loss(Mean(terms, _classes, accept, whole, title), MeanSlopes(slopes, clip, title))
