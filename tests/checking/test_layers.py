import pytest
import torch
from tables import LAYERS, layer_scene

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_the_check_finds_every_layer_right_in_every_precision(name, dtype):
    layer, params, *batch = layer_scene(name, dtype)
    if fn.tree.leaves(params):
        report = fn.check(fn.explicit(fn.supervised(layer, fn.half_squared_error())), params, tuple(batch))
    else:
        report = fn.check_vjp(layer, (params, batch[0]))
    assert report, report
