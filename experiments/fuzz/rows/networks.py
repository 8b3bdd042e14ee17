"""What is made of layers: the user's own, dropout with seeds, modules, Jacobians, calibrated norms, starting points."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

import funcnn as fn
from experiments.fuzz.agreement import Untold
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import (
    affine,
    batch_norm,
    differentiable,
    dropped,
    gradients,
    leaves,
    plain,
    pulled,
    series,
    torchs,
)

NET = series(affine, torchs(torch.tanh))


def normal(generator: Generator, *shape: int) -> Tensor:
    """Float64 numbers."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def weights(generator: Generator) -> dict[str, Tensor]:
    """Those of dense(4, 3)."""
    return {"w": normal(generator, 4, 3), "b": normal(generator, 3)}


def own_forward(params: Any, x: Tensor) -> tuple[Tensor, Any]:
    """A user's layer, y = tanh(x) w."""
    return x.tanh() * params["w"], (x, params["w"])


def own_backward(residuals: Any, dy: Tensor) -> tuple[Any, Tensor]:
    """Its pullback."""
    x, w = residuals
    return {"w": (dy * x.tanh()).sum(0)}, dy * w * (1 - x.tanh() ** 2)


def own_init(generator: Generator, *, dtype: Any = None, device: Any = None) -> Any:
    """Ones."""
    return {"w": torch.ones(4, dtype=dtype)}


OWN = fn.Layer(own_init, own_forward, own_backward)
NORMED = fn.serial(fn.dense(4, 3), fn.batch_norm(3))


def own_formula(params: Any, x: Tensor) -> Tensor:
    """The same."""
    if params["w"].shape != (4,) or x.shape != (5, 4) or len(params) != 1 or x.dtype != params["w"].dtype:
        raise Untold
    return x.tanh() * params["w"]


def of_own(formula: Any, params: Any, x: Tensor, dy: Tensor) -> Any:
    """As `pulled`, of rules that nobody checks: on what has no plain numbers they do what they do."""
    try:
        return pulled(formula, params, x, dy)
    except (TypeError, RuntimeError):
        raise Untold from None


def _through(layer: fn.Layer, params: Any, x: Tensor, dy: Tensor) -> Any:
    y, residuals = layer.forward(params, x)
    return y, *layer.backward(residuals, dy)


def _differentiated(layer: Any, params: Any, x: Tensor) -> Any:
    params, x = fn.tree.map(lambda leaf: leaf.detach().requires_grad_(), (params, x))
    y = fn.torch_function(layer)(params, x)
    found = torch.autograd.grad(y.sum(), [*fn.tree.leaves(params), x])
    return y.detach(), list(found)


def _differentiated_truth(layer: Any, params: Any, x: Tensor) -> Any:
    y, dparams, dx = pulled(series(affine), (params,), x, torch.ones(*x.shape[:-1], 3, dtype=x.dtype))
    return y, [dparams[0]["b"], dparams[0]["w"], dx]


def _jacobian_truth(layer: Any, params: Any, x: Tensor) -> Any:
    params, x = plain(params), plain(x)
    with torch.enable_grad():
        differentiable((params, x))
        y = NET(params, x)
    rows = [gradients(one, (params, x)) for one in y.flatten()]
    stacked = [torch.stack(parts).reshape(*y.shape, *parts[0].shape) for parts in zip(*map(leaves, rows), strict=True)]
    return (({"b": stacked[0], "w": stacked[1]}, ()), stacked[2])


def _calibrated(params: Any, batches: Any) -> Tensor:
    network = fn.calibrate(NORMED, params, batches)
    return torch.cat([network(params, x) for x in batches])


def _calibrated_truth(params: Any, batches: Any) -> Tensor:
    params, inputs = plain(params), torch.cat([plain(one) for one in batches])
    if any(bool((leaf.abs() > 1e6).any()) for leaf in [*leaves(params), inputs]):
        raise Untold  # the mean takes all digits
    return batch_norm(params[1], affine(params[0], inputs))


def _init_truth(generator: Generator, dtype: Any, device: Any) -> Any:
    def uniform(*shape: int) -> Tensor:
        unit = torch.rand(shape, generator=generator, dtype=torch.float64)
        return ((2 * unit - 1) / math.sqrt(4)).to(dtype or torch.get_default_dtype())

    return {"w": uniform(3, 4).T, "b": uniform(3)}


def _module(generator: Generator) -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    for parameter in module.parameters():
        parameter.data = normal(generator, *parameter.shape)
    return module


def _module_truth(params: Any, x: Tensor, dy: Tensor) -> Any:
    return pulled(lambda p, x: F.linear(x, p["0"]["weight"], p["0"]["bias"]).tanh(), params, x, dy)


MODULE = fn.module(nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double())
DROPPING = fn.with_dropout(fn.serial(fn.dense(4, 3), fn.dropout(0.5)))


def _dropping_truth(params: Any, x: Tensor, seeds: Tensor, dy: Tensor) -> Any:
    if params[1] != () or seeds.dtype != torch.int64 or seeds.shape != x.shape[:1]:
        raise TypeError("no seeds")
    y, dparams, dx = pulled(lambda p, x: dropped(affine(p[0], x), plain(seeds), 0, 0.5), params, x, dy)
    return y, dparams, (dx, ()) if isinstance(dx, Tensor) else dx


ROWS = {
    "Layer": Call(
        lambda g: (own_forward, own_backward, {"w": normal(g, 4)}, normal(g, 5, 4)),
        lambda ahead, back, params, x: fn.Layer(own_init, ahead, back)(params, x),
        lambda ahead, back, params, x: of_own(own_formula, params, x, torch.zeros(5, 4, dtype=x.dtype))[0],
        trusts=True,
    ),
    "apply": Call(
        lambda g: (fn.serial(OWN, fn.dense(4, 3)), ({"w": normal(g, 4)}, weights(g)), normal(g, 5, 4)),
        fn.apply,
        lambda layer, params, x: of_own(series(own_formula, affine), params, x, torch.zeros(5, 3, dtype=x.dtype))[0],
    ),
    "serial, of one's own": Call(
        lambda g: (OWN, fn.dense(4, 3), ({"w": normal(g, 4)}, weights(g)), normal(g, 5, 4), normal(g, 5, 3)),
        lambda first, last, params, x, dy: _through(fn.serial(first, last), params, x, dy),
        lambda first, last, params, x, dy: of_own(series(own_formula, affine), params, x, dy),
        trusts=True,
    ),
    "residual, of one's own": Call(
        lambda g: (OWN, {"w": normal(g, 4)}, normal(g, 5, 4), normal(g, 5, 4)),
        lambda layer, params, x, dy: _through(fn.residual(layer), params, x, dy),
        lambda layer, params, x, dy: of_own(lambda p, x: x + own_formula(p, x), params, x, dy),
        trusts=True,
    ),
    "parallel, of one's own": Call(
        lambda g: (OWN, fn.dense(4, 3), ({"w": normal(g, 4)}, weights(g)), normal(g, 5, 4), normal(g, 5, 7)),
        lambda first, last, params, x, dy: _through(fn.parallel(first, last), params, x, dy),
        lambda first, last, params, x, dy: of_own(
            lambda p, x: torch.cat([own_formula(p[0], x), affine(p[1], x)], -1), params, x, dy
        ),
        trusts=True,
    ),
    "rematerialised, of one's own": Call(
        lambda g: (OWN, {"w": normal(g, 4)}, normal(g, 5, 4), normal(g, 5, 4)),
        lambda layer, params, x, dy: _through(fn.rematerialised(layer), params, x, dy),
        lambda layer, params, x, dy: of_own(own_formula, params, x, dy),
        trusts=True,
    ),
    "with_dropout": Call(
        lambda g: ((weights(g), ()), normal(g, 5, 4), torch.randint(2**62, (5,), generator=g), normal(g, 5, 3)),
        lambda params, x, seeds, dy: _through(DROPPING, params, (x, seeds), dy)[:2],
        lambda params, x, seeds, dy: _dropping_truth(params, x, seeds, dy)[:2],
    ),
    "with_dropout, of a network": Call(
        lambda g: (fn.dropout(0.25), (), normal(g, 5, 4), torch.randint(2**62, (5,), generator=g)),
        lambda layer, params, x, seeds: fn.with_dropout(layer)(params, (x, seeds)),
        lambda layer, params, x, seeds: torchs(lambda x: dropped(x, plain(seeds), 0, 0.25))(params, plain(x)),
    ),
    "with_seeds": Call(
        lambda g: (normal(g, 5, 4), g),
        lambda x, g: fn.with_seeds(x, g),
        lambda x, g: (plain(x), torch.randint(2**62, (len(x),), generator=g)),
    ),
    "jacobian": Call(
        lambda g: (fn.serial(fn.dense(4, 3), fn.tanh()), (weights(g), ()), normal(g, 2, 4)), fn.jacobian, _jacobian_truth
    ),
    "calibrate": Call(
        lambda g: ((weights(g), {"w": normal(g, 3), "b": normal(g, 3)}), [normal(g, 5, 4), normal(g, 2, 4)]),
        _calibrated,
        _calibrated_truth,
        power=0.5,
    ),
    "torch_function": Call(lambda g: (fn.dense(4, 3), weights(g), normal(g, 5, 4)), _differentiated, _differentiated_truth),
    "module": Call(
        lambda g: ({"0": {"weight": normal(g, 3, 4), "bias": normal(g, 3)}}, normal(g, 5, 4), normal(g, 5, 3)),
        lambda params, x, dy: _through(MODULE, params, x, dy),
        _module_truth,
    ),
    "module, of what is given": Call(
        lambda g: (_module(g), normal(g, 5, 4)),
        lambda module, x: fn.module(module)(fn.module(module).init(torch.Generator()), x),
        lambda module, x: module(plain(x)).detach(),
    ),
    "dense, its start": Call(
        lambda g: (g, torch.float32, "cpu"),
        lambda g, dtype, device: fn.dense(4, 3).init(g, dtype=dtype, device=device),
        _init_truth,
    ),
}
