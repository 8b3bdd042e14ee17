import pytest
import torch
from helpers import assert_close, labels, normal, seeded

import funcnn as fn
from experiments.core import modules

NETWORKS = {
    "lenet": (fn.lenet(), modules.lenet, (normal(3, 1, 28, 28), labels(3, 10))),
    "transformer": (
        fn.transformer(7, 6, 8, 2, 2),
        lambda: modules.transformer(7, 6, 8, 2, 2),
        (labels(20, 7).reshape(4, 5), labels(20, 7, seed=1).reshape(4, 5)),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_modules_are_the_networks(name):
    layer, made, (x, t) = NETWORKS[name]
    params = layer.init(seeded(), dtype=torch.float64)
    module = modules.copied(params, made().double())
    assert_close(modules.leaves_of(module), fn.tree.leaves(params), 0)
    logits = module(x)
    torch.nn.functional.cross_entropy(logits.flatten(0, -2), t.flatten()).backward()
    value, grads = fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy()))(params, (x, t))
    assert_close(layer(params, x), logits.detach(), 1e-12)
    assert_close(modules.leaves_of(module, of_gradients=True), fn.tree.leaves(grads), 1e-12)
