"""What the conformance tests run over: LAYERS, LOSSES and the providers' tolerances. A new layer or loss is one row."""

from typing import Any, NamedTuple

import torch
from helpers import labels, normal, seeded
from row import LayerRow, affine, series
from rows import ROWS

import funcnn as fn
from funcnn.layers.guarded import guarded


class LossRow(NamedTuple):
    loss: fn.Loss
    outputs: torch.Tensor
    targets: torch.Tensor
    formula: Any
    clip: float | None = None  # the bound of its gradient, which is on purpose not that of its value


def scale(features):
    """The layer y = x * w as a newcomer writes it: all that can be known of it is said."""

    def moves(params, x):
        return {"w": lambda entry, h: fn.Column(entry, h.reshape(-1, *[1] * (x.ndim - 1)) * x.movedim(-1, 0)[entry])}

    def carry(params, x, y):
        def spread(column):
            weight = params["w"][column.feature].reshape(-1, *[1] * (x.ndim - 1))
            return column._replace(change=weight * column.change)

        return spread

    def summands(residuals, dy):
        x, _ = residuals
        rows = x * dy
        return {"w": fn.Rows(rows if x.ndim == 2 else rows.flatten(1, -2).sum(1))}

    layer = fn.Layer(
        lambda generator, *, dtype=None, device=None: {"w": torch.linspace(0.5, 2, features, dtype=dtype, device=device)},
        fn.Forward(lambda params, x: (x * params["w"], (x, params["w"])), True, moves, carry),
        fn.ByParts(summands, lambda residuals, dy: dy * residuals[1]),
    )
    sizes = {"params": {"w": "D"}, "x": "N ... D", "y": "N ... D", "like": lambda residuals: residuals[0]}
    return guarded(layer, f"scale({features})", **sizes, D=features)


def tempered():
    """A user's layer, three plain functions, whose parameters are a nested tree."""

    def init(generator, *, dtype=None, device=None):
        return {"factor": torch.tensor(1.2, dtype=dtype), "shift": (torch.tensor([0.3], dtype=dtype), [])}

    def forward(params, x):
        return x * params["factor"] + params["shift"][0], (x, params["factor"])

    def backward(residuals, dy):
        x, factor = residuals
        return {"factor": (dy * x).sum(), "shift": (dy.sum().reshape(1), [])}, dy * factor

    return fn.Layer(init, forward, backward)


def centred(features):
    """A user's layer that mixes the samples of a batch."""

    def init(generator, *, dtype=None, device=None):
        return {"factor": torch.linspace(1, 2, features, dtype=dtype, device=device)}

    def forward(params, x):
        deviation = x - 0.5 * x.mean(0)
        return deviation * params["factor"], (deviation, params["factor"])

    def backward(residuals, dy):
        deviation, factor = residuals
        inner = dy * factor
        return {"factor": (dy * deviation).flatten(0, -2).sum(0)}, inner - 0.5 * inner.mean(0)

    return fn.Layer(init, forward, backward)


def reshaped(*shape):
    """A user's layer without parameters: every sample in another shape."""
    forward, nothing = lambda params, x: (x.reshape(len(x), *shape), x), lambda generator, **where: ()
    return fn.Layer(nothing, forward, lambda x, dy: ((), dy.reshape(x.shape)))


def quiet(layer):
    """The same layer as three plain functions, which say nothing of themselves."""
    forward, backward = layer.forward, layer.backward
    return fn.Layer(layer.init, lambda params, x: forward(params, x), lambda residuals, dy: backward(residuals, dy))


def nothing_known(loss):
    """The same loss as a user would write it: a pair of functions and nothing else."""
    return fn.Loss(lambda outputs, targets: loss.forward(outputs, targets), lambda residuals: loss.backward(residuals))


def linear(params, x):
    return torch.einsum("...d,dh->...h", x, params["w"])


def logistic(params, x):
    return 1 / (1 + (-x).exp())


def hyperbolic(params, x):
    return (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())


def rectified(params, x):
    return x.clamp(min=0)


def normalised(params, x):
    return x.exp() / x.exp().sum(-1, keepdim=True)


def scaled_formula(params, x):
    return x * params["w"]


def tempered_formula(params, x):
    return x * params["factor"] + params["shift"][0]


def centred_formula(params, x):
    return (x - 0.5 * x.mean(0)) * params["factor"]


N = 5
_x = normal(N, 4)
X = torch.where(_x < 0, _x - 0.1, _x + 0.1)  # differences must not step over the kink of relu
_x = normal(N, 2, 4, seed=1)
TOKENS = torch.where(_x < 0, _x - 0.1, _x + 0.1)
_flat, _square = (lambda params, x: x.reshape(len(x), -1)), (lambda params, x: x.reshape(len(x), 3, 2))

LAYERS = {
    "dense": LayerRow(fn.dense(4, 3), X, affine),
    "dense without bias": LayerRow(fn.dense(4, 3, bias=False), X, linear),
    "dense of width 1": LayerRow(fn.dense(1, 1), X[:, :1], affine),
    "dense on tokens": LayerRow(fn.dense(4, 3), TOKENS, affine),
    "dense without bias on images": LayerRow(fn.dense(2, 3, bias=False), TOKENS.reshape(N, 2, 2, 2), linear),
    "sigmoid": LayerRow(fn.sigmoid(), X, logistic),
    "tanh": LayerRow(fn.tanh(), TOKENS, hyperbolic),
    "relu": LayerRow(fn.relu(), X, rectified, analytic=False),
    "softmax": LayerRow(fn.softmax(), X, normalised),
    "softmax on tokens": LayerRow(fn.softmax(), TOKENS, normalised),
    "softmax of one": LayerRow(fn.softmax(), X[:, :1], normalised),
    "perceptron": LayerRow(fn.perceptron(4), X, series(affine, logistic)),
    "mlp of depth 1": LayerRow(fn.mlp([4, 3]), X, series(affine)),
    "mlp": LayerRow(fn.mlp([4, 5, 3]), X, series(affine, logistic, affine)),
    "mlp, tanh": LayerRow(fn.mlp([4, 5, 4, 3], fn.tanh), X, series(affine, hyperbolic, affine, hyperbolic, affine)),
    "mlp, relu": LayerRow(fn.mlp([4, 6, 3], fn.relu), X, series(affine, rectified, affine), analytic=False),
    "mlp, softmax": LayerRow(fn.mlp([4, 5, 4, 3], fn.softmax), X, series(affine, normalised, affine, normalised, affine)),
    "mlp on tokens": LayerRow(fn.mlp([4, 5, 3], fn.tanh), TOKENS, series(affine, hyperbolic, affine)),
    "mlp on tokens, softmax": LayerRow(fn.mlp([4, 5, 3], fn.softmax), TOKENS, series(affine, normalised, affine)),
    "autoencoder": LayerRow(
        fn.autoencoder([4, 3, 2], fn.tanh), X, series(series(affine, hyperbolic, affine), series(affine, hyperbolic, affine))
    ),
    "serial without bias": LayerRow(
        fn.serial(fn.dense(4, 5, bias=False), fn.tanh(), fn.dense(5, 3, bias=False)), X, series(linear, hyperbolic, linear)
    ),
    "serial, activations first and twice": LayerRow(
        fn.serial(fn.sigmoid(), fn.dense(4, 5), fn.tanh(), fn.softmax(), fn.softmax()),
        X,
        series(logistic, affine, hyperbolic, normalised, normalised),
    ),
    "serial, nested": LayerRow(
        fn.serial(fn.serial(fn.dense(4, 5)), fn.serial(fn.tanh(), fn.serial(fn.dense(5, 3), fn.tanh()))),
        X,
        series(series(affine), series(hyperbolic, series(affine, hyperbolic))),
    ),
    "serial without parameters": LayerRow(fn.serial(fn.tanh(), fn.softmax()), X, series(hyperbolic, normalised)),
    "a newcomer's": LayerRow(scale(4), X, scaled_formula),
    "a newcomer's on tokens": LayerRow(scale(4), TOKENS, scaled_formula),
    "a newcomer's between": LayerRow(
        fn.serial(fn.dense(4, 5), fn.softmax(), scale(5), fn.dense(5, 3)),
        X,
        series(affine, normalised, scaled_formula, affine),
    ),
    "a user's": LayerRow(tempered(), X, tempered_formula),
    "a user's first": LayerRow(
        fn.serial(tempered(), fn.dense(4, 5), fn.tanh(), fn.dense(5, 3)),
        X,
        series(tempered_formula, affine, hyperbolic, affine),
    ),
    "a user's between": LayerRow(
        fn.serial(fn.dense(4, 5), tempered(), fn.tanh(), fn.dense(5, 3)),
        X,
        series(affine, tempered_formula, hyperbolic, affine),
    ),
    "a user's last": LayerRow(
        fn.serial(fn.dense(4, 5), fn.tanh(), tempered()), X, series(affine, hyperbolic, tempered_formula)
    ),
    "a user's throughout": LayerRow(
        fn.serial(quiet(fn.dense(4, 5)), quiet(fn.sigmoid()), quiet(fn.dense(5, 3))), X, series(affine, logistic, affine)
    ),
    "a user's that mixes samples": LayerRow(centred(4), X, centred_formula),
    "a user's that mixes samples, between": LayerRow(
        fn.serial(fn.dense(4, 5), fn.serial(centred(5), fn.tanh()), fn.dense(5, 3)),
        X,
        series(affine, series(centred_formula, hyperbolic), affine),
    ),
    "a user's that reshapes": LayerRow(
        fn.serial(fn.dense(4, 6), reshaped(3, 2), fn.dense(2, 2), fn.tanh(), reshaped(-1), fn.dense(6, 3)),
        X,
        series(affine, _square, affine, hyperbolic, _flat, affine),
    ),
}

LAYERS |= ROWS

REALS, WANTED = normal(N, 3, seed=2), normal(N, 3, seed=3)
P, Q = 0.05 + 0.9 * torch.rand(2, N, 3, generator=seeded(4), dtype=torch.float64)
CLASSES = labels(N, 3, seed=5)
LABELS = labels(2 * N, 4, seed=6).reshape(N, 2)
entropy = torch.nn.CrossEntropyLoss()


def entropy_of_tokens(logits, labels):
    return entropy(logits.movedim(-1, 1), labels)


def half_squares(outputs, targets):
    return torch.nn.MSELoss(reduction="sum")(outputs, targets) / 2 / len(outputs)


def squares(outputs, targets):
    return 2.5 * torch.nn.MSELoss()(outputs, targets)


LOSSES = {
    "half squared error": LossRow(fn.half_squared_error(), REALS, WANTED, half_squares),
    "half squared error on tokens": LossRow(fn.half_squared_error(), TOKENS, TOKENS.sin(), half_squares),
    "mean squared error": LossRow(fn.mean_squared_error(), REALS, WANTED, torch.nn.MSELoss()),
    "scaled squared error": LossRow(fn.mean_squared_error(scale=2.5), REALS, WANTED, squares),
    "binary cross entropy": LossRow(fn.binary_cross_entropy(), P, Q, torch.nn.BCELoss()),
    "softmax cross entropy": LossRow(fn.softmax_cross_entropy(), 3 * REALS, CLASSES, entropy),
    "clipped cross entropy": LossRow(fn.softmax_cross_entropy(clip=0.05), 3 * REALS, CLASSES, entropy, clip=0.05),
    "softmax cross entropy on tokens": LossRow(fn.softmax_cross_entropy(), 3 * TOKENS, LABELS, entropy_of_tokens),
    "clipped cross entropy on tokens": LossRow(
        fn.softmax_cross_entropy(clip=0.02), 3 * TOKENS, LABELS, entropy_of_tokens, clip=0.02
    ),
    "a user's": LossRow(nothing_known(fn.softmax_cross_entropy()), 3 * REALS, CLASSES, entropy),
    "a user's sum": LossRow(
        fn.Loss(lambda y, t: ((y - t).square().sum(), (y, t)), lambda kept: 2 * (kept[0] - kept[1])),
        REALS,
        WANTED,
        lambda y, t: ((y - t) ** 2).sum(),
    ),
}


def layer_scene(name, dtype=torch.float64):
    """(layer, parameters, inputs, targets of the outputs' shape) of a row."""
    row = LAYERS[name]
    params, x = row.layer.init(seeded(), dtype=dtype), row.x.to(dtype) if row.x.is_floating_point() else row.x
    return row.layer, params, x, normal(*row.layer(params, x).shape, seed=9, dtype=dtype)


def loss_scene(name, layer=None, dtype=torch.float64):
    """(objective, parameters, batch, the objective's formula) of a loss of the outputs of an mlp."""
    row = LOSSES[name]
    features = row.outputs.shape[-1]
    layer = layer or fn.serial(fn.mlp([4, 5, features], fn.tanh), fn.sigmoid())
    x = X if row.outputs.ndim == 2 else TOKENS
    targets = row.targets.to(dtype) if row.targets.is_floating_point() else row.targets
    objective, params = fn.supervised(layer, row.loss), layer.init(seeded(), dtype=dtype)
    return objective, params, (x.to(dtype), targets), lambda params, batch: row.formula(layer(params, batch[0]), batch[1])
