import pytest
import torch
from helpers import assert_close, normal

import funcnn as fn

N = 4

# name: (layer, the same in torch's words)
POOLS = {
    "maximum": (fn.max_pool2d(2), lambda x: torch.nn.functional.max_pool2d(x, 2)),
    "maximum of all sizes": (
        fn.max_pool2d((3, 2), stride=(1, 2), padding=(1, 0)),
        lambda x: torch.nn.functional.max_pool2d(x, (3, 2), (1, 2), (1, 0)),
    ),
    "mean": (fn.avg_pool2d(2), lambda x: torch.nn.functional.avg_pool2d(x, 2)),
    "mean of all sizes": (
        fn.avg_pool2d((3, 2), stride=(2, 1)),
        lambda x: torch.nn.functional.avg_pool2d(x, (3, 2), (2, 1)),
    ),
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", POOLS)
def test_it_is_torchs_pooling_and_its_autograd(name, ties):
    layer, function = POOLS[name]
    x = normal(N, 3, 7, 8)
    x = x.round() if ties else x
    y, pullback = torch.func.vjp(function, x)
    found, residuals = layer.forward((), x)
    dy = normal(*y.shape, seed=1)
    assert_close(found, y, 1e-14)
    assert_close(layer.backward(residuals, dy)[1], pullback(dy)[0], 1e-14)


def test_of_equal_maxima_the_first_row_by_row_has_the_gradient():
    _, residuals = fn.max_pool2d(2).forward((), torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]]))
    dx = fn.max_pool2d(2).backward(residuals, torch.full((1, 1, 1, 1), 3.0))[1]
    assert torch.equal(dx, torch.tensor([[[[0.0, 3.0], [0.0, 0.0]]]]))
