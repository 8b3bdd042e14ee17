"""The generalized Jacobian: every derivative of every output, which backpropagation exists to avoid.

For y of shape (M1, ..., Mk), a function of x of shape (N1, ..., Nl), it is the array of shape (M1, ..., Mk, N1, ..., Nl)

    J[i, j] = dy[i] / dx[j]        i = (i1, ..., ik), j = (j1, ..., jl)

and the chain rule is a contraction with it, dx[j] = sum_i dy[i] J[i, j]. A `backward` rule does that contraction without
J. Given dy = 1 in the single entry i, it returns J[i]: so a rule derived by hand can be laid out in full, to be looked at
or to be compared with torch.func.jacrev. Only small cases have the memory: see `python -m experiments jacobian`.
"""

from typing import Any

import torch
from torch import Tensor

from .. import kernels, tree
from ..errors import InputError, check_autocast, describe
from ..memory import check_memory
from ..operands import check_params, check_samples
from ..types import Layer, Params
from .pullbacks import pulled, ran


def jacobian(layer: Layer, params: Params, x: Tensor) -> tuple[Params, Any]:
    """(dy/dparams, dy/dx) of y = layer(params, x), from the layer's own `backward`, vmapped over the entries of y.

    Each has the shape of y followed by that of what it is taken with respect to; dy/dparams is a tree like params. Of tokens
    there is no dy/dx: it is ().

    Raises:
        InputError: layer is no Layer, or refuses its params or x; derivatives that there is no memory for.
    """
    if not isinstance(layer, Layer):
        raise InputError("layer", describe(layer), "a Layer, such as dense(4, 3)")
    check_autocast()
    check_params(params)
    check_samples(x, "x")
    y, residuals = ran(layer.forward, params, x)
    size = y.numel() * (sum(leaf.numel() for leaf in tree.leaves(params)) + x.numel() + y.numel()) * y.itemsize
    check_memory("x", f"derivatives of {y.numel()} outputs", size, y.device)
    units = torch.eye(y.numel(), dtype=y.dtype, device=y.device).reshape(-1, *y.shape)
    vmapped = torch.func.vmap(lambda dy: pulled(layer.backward, residuals, dy))
    dparams, dx = kernels.undisturbed(vmapped, units)
    shaped: Params = tree.map(lambda rows: rows.reshape(*y.shape, *rows.shape[1:]), tree.arranged(dparams, params))
    return shaped, dx.reshape(*y.shape, *x.shape) if x.is_floating_point() else dx
