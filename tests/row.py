"""A row of the conformance table of layers, and what the formulas of the rows are made of."""

from typing import Any, NamedTuple

import torch

import funcnn as fn


class LayerRow(NamedTuple):
    layer: fn.Layer
    x: torch.Tensor  # samples, far from every kink
    formula: Any  # the same function of (params, x) in torch's words
    analytic: bool = True
    mixes: bool = False  # the samples of a batch: one of a single sample is refused


def series(*formulas):
    def formula(params, x):
        for part, own in zip(formulas, params, strict=True):
            x = part(own, x)
        return x

    return formula


def affine(params, x):
    return torch.einsum("...d,dh->...h", x, params["w"]) + params["b"]
