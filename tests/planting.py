"""Wrong gradients on purpose, for the tests of the check."""

import torch
from helpers import classifier

import funcnn as fn


def scene(*arguments, **options):
    objective, params, batch = classifier(*arguments, **options)
    return objective, fn.tree.map(torch.Tensor.double, params), batch


OBJECTIVE, PARAMS, BATCH = scene((4, 5, 3))


def planted(change, objective=OBJECTIVE):
    """The explicit provider with its gradient changed by hand: change(grads) writes into a copy."""
    right = fn.explicit(objective)

    def value_and_grad(params, batch):
        value, grads = right(params, batch)
        grads = fn.tree.clone(grads)
        replaced = change(grads)
        return value, grads if replaced is None else replaced

    return fn.StepFn(right.value, value_and_grad)


def leaf(layer, name, change):
    """A change of one leaf: grads[layer][name] becomes change(grads[layer][name])."""

    def write(grads):
        grads[layer][name][...] = change(grads[layer][name])

    return write


def only(index, change):
    def changed(g):
        g = g.clone()
        g[index] = change(g[index])
        return g

    return changed
