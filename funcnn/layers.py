"""Layers: each a forward rule beside the backward rule that was derived from it by hand.

A layer is `init`, `forward` and `backward`. `forward(params, x)` returns the output and the residuals, the tensors that
the derivative needs; `backward(residuals, dy)` takes the gradient dy = dL/dy of some scalar L and returns (dL/dparams,
dL/dx). Both are pure and keep no hidden state, so each half can be printed, tested and vmapped alone.

Every rule is derived the same way: with <A, B> = sum_ij A_ij B_ij, a small change dY of the output changes the loss by
<dL/dY, dY>; insert the differential of the forward rule and read off what multiplies dW, db and dX. See Goodfellow,
Bengio & Courville, *Deep Learning* (2016), section 6.5, and Bishop, *Pattern Recognition and Machine Learning* (2006),
section 5.3.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Inexact
from torch import Generator, Tensor

from . import kernels
from .errors import InputError, check_count, check_dtype, check_generator, check_same_shape, describe
from .types import Known, Layer, Params, Residuals, Structure


def dense(in_features: int, out_features: int, *, bias: bool = True) -> Layer:
    """The affine map Y = X W + 1 b, with X (N, D), W (D, H), b (H,), Y (N, H).

    From the differential dY = dX W + X dW + 1 db:

        dL/dW = X^T dL/dY     (D, H)
        dL/db = 1^T dL/dY     (H,)
        dL/dX = dL/dY W^T     (N, D)

    Parameters `{"w": W, "b": b}`, without bias `{"w": W}`; both start uniform in [-1/sqrt(D), 1/sqrt(D)], so that the
    variance of the output does not grow with the fan-in D (torch.nn.Linear's rule).

    Raises:
        InputError: a size is no positive integer; w, b or x has the wrong shape, dtype or device.
    """
    check_count("in_features", in_features)
    check_count("out_features", out_features)
    shapes: dict[str, tuple[int, ...]] = {"w": (in_features, out_features)} | ({"b": (out_features,)} if bias else {})

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        check_generator(generator)
        check_dtype(dtype)
        bound = 1 / math.sqrt(in_features)

        def uniform(*shape: int) -> Tensor:
            # Drawn in float64 where the generator lives: every dtype and device starts at the same point.
            unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
            return (bound * (2 * unit - 1)).to(device=device or "cpu", dtype=dtype or torch.get_default_dtype())

        # Transposed: with the D weights of a unit side by side in memory, products with few columns run twice as fast.
        w = uniform(out_features, in_features).T
        return {"w": w, "b": uniform(out_features)} if bias else {"w": w}

    def check(params: Params, x: Tensor) -> None:
        if not isinstance(params, dict) or params.keys() != shapes.keys():
            found = sorted(params, key=str) if isinstance(params, dict) else describe(params)
            raise InputError("params", found, f"a dict with the keys {sorted(shapes)}")
        for name, shape in shapes.items():
            if not isinstance(params[name], Tensor) or params[name].shape != shape:
                raise InputError(f"params['{name}']", describe(params[name]), f"shape {shape}")
        w = params["w"]
        if bias and (params["b"].dtype != w.dtype or params["b"].device != w.device):
            found = f"{params['b'].dtype} on {params['b'].device}"
            raise InputError("params['b']", found, f"{w.dtype} on {w.device}, as params['w']")
        if x.ndim != 2 or x.shape[1] != in_features:
            raise InputError("inputs of params", describe(x), f"shape (N, {in_features})")
        if x.dtype != w.dtype or x.device != w.device:
            raise InputError("inputs of params", f"{x.dtype} on {x.device}", f"{w.dtype} on {w.device}, as params['w']")

    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        check(params, x)
        w = params["w"]
        y = kernels.affine(x, w, params["b"]) if bias else kernels.matmul(x, w)
        return y, (x, w)

    def backward_params(
        residuals: tuple[Float[Tensor, "N D"], Float[Tensor, "D H"]], dy: Float[Tensor, "N H"]
    ) -> dict[str, Tensor]:
        x, w = residuals
        if dy.shape != (x.shape[0], w.shape[1]):
            raise InputError("dy", describe(dy), f"shape {(x.shape[0], w.shape[1])}")
        dw = kernels.matmul(dy.T, x).T  # X^T dY, laid out in memory as W is
        return {"w": dw, "b": dy.sum(0)} if bias else {"w": dw}

    def backward(
        residuals: tuple[Float[Tensor, "N D"], Float[Tensor, "D H"]], dy: Float[Tensor, "N H"]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "N D"]]:
        _, w = residuals
        return backward_params(residuals, dy), kernels.matmul(dy, w.T)

    facts = {"backward_params": backward_params, "structure": "dense"}
    return Layer(init, forward, backward, Known((forward, backward), facts))


def _activation(
    function: Callable[[Tensor], Tensor], pullback: Callable[[Tensor, Tensor], Tensor], structure: Structure = "elementwise"
) -> Layer:
    """A layer y = f(x) with no parameters, whose derivative is known from its output: dx = pullback(y, dy)."""

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        return ()

    def forward(
        params: tuple[()], x: Inexact[Tensor, "*shape"]
    ) -> tuple[Inexact[Tensor, "*shape"], Inexact[Tensor, "*shape"]]:
        if not isinstance(params, tuple) or params:
            raise InputError("params", describe(params), "(), for this layer has no parameters")
        y = function(x)
        return y, y

    def backward(
        residuals: Float[Tensor, "*shape"], dy: Float[Tensor, "*shape"]
    ) -> tuple[tuple[()], Float[Tensor, "*shape"]]:
        check_same_shape("dy", dy, residuals)
        return (), pullback(residuals, dy)

    facts = {"backward_params": lambda residuals, dy: (), "structure": structure}
    return Layer(init, forward, backward, Known((forward, backward), facts))


def sigmoid() -> Layer:
    """The logistic function s(x) = 1 / (1 + exp(-x)), entry by entry: ds/dx = s (1 - s), so dx = dy s (1 - s)."""
    return _activation(torch.sigmoid, kernels.sigmoid_pullback)


def tanh() -> Layer:
    """The hyperbolic tangent t(x), entry by entry: dt/dx = 1 - t^2, so dx = dy (1 - t^2)."""
    return _activation(torch.tanh, kernels.tanh_pullback)


def relu() -> Layer:
    """The rectifier y = max(x, 0), entry by entry: dy/dx = 1 where x > 0, and 0 elsewhere, so dx = dy [x > 0].

    At x = 0, where there is no derivative, it is 0 here, as in torch. Lecture notes often take 1 there, and central
    differences see 1/2; any value from 0 to 1 is a subgradient.
    """
    return _activation(torch.relu, lambda y, dy: torch.where(y > 0, dy, 0))


def softmax() -> Layer:
    """Rows of positive numbers that sum to 1: y_i = exp(x_i - m) / sum_j exp(x_j - m), with m = max_j x_j.

    Subtracting the maximum changes nothing mathematically and keeps every exponent at or below 0, so logits of +-1e4
    are as safe as small ones. The Jacobian of a row is diag(y) - y y^T; applied to dy,

        dx = y * (dy - <dy, y>)     (N, C), the inner product taken row by row.
    """

    def pullback(y: Tensor, dy: Tensor) -> Tensor:
        return y * (dy - (dy * y).sum(-1, keepdim=True))

    return _activation(lambda x: torch.softmax(x, dim=-1), pullback, structure=None)
