import torch
from helpers import normal
from row import LayerRow, affine, series

import funcnn as fn

N = 5
X = normal(N, 4)


def bent(params, x):
    return torch.tanh(x)


def around(formula):
    return lambda params, x: x + formula(params, x)


def beside(*formulas):
    return lambda params, x: torch.cat([formula(own, x) for formula, own in zip(formulas, params, strict=True)], -1)


ROWS = {
    "residual": LayerRow(fn.residual(fn.dense(4, 4)), X, around(affine)),
    "residual of residuals": LayerRow(
        fn.serial(fn.residual(fn.serial(fn.residual(fn.tanh()), fn.dense(4, 4))), fn.dense(4, 3)),
        X,
        series(around(series(around(bent), affine)), affine),
    ),
    "parallel": LayerRow(fn.parallel(fn.dense(4, 3), fn.tanh(), fn.dense(4, 1)), X, beside(affine, bent, affine)),
    "parallel of one, between": LayerRow(
        fn.serial(fn.tanh(), fn.parallel(fn.serial(fn.dense(4, 3), fn.tanh())), fn.dense(3, 2)),
        X,
        series(bent, beside(series(affine, bent)), affine),
    ),
    "rematerialised": LayerRow(
        fn.serial(fn.rematerialised(fn.serial(fn.dense(4, 5), fn.tanh())), fn.rematerialised(fn.dense(5, 3))),
        X,
        series(series(affine, bent), affine),
    ),
    "dropout in use": LayerRow(fn.serial(fn.dense(4, 3), fn.dropout(0.5)), X, series(affine, lambda params, x: x)),
}
