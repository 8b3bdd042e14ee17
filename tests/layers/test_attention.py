import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, normal, says, seeded

import funcnn as fn
from funcnn.layers.attention import attend

# (N, T, D, heads)
SHAPES = [(1, 1, 1, 1), (2, 1, 6, 3), (3, 5, 4, 1), (2, 7, 8, 2), (1, 33, 12, 4), (4, 64, 16, 4)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_way = pytest.mark.parametrize("causal", [False, True])


def torch_attention(layer, params, features, heads):
    """torch's own module with these parameters."""
    module = torch.nn.MultiheadAttention(features, heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        module.in_proj_weight.copy_(params["qkv"]["w"].T)
        module.in_proj_bias.copy_(params["qkv"]["b"])
        module.out_proj.weight.copy_(params["out"]["w"].T)
        module.out_proj.bias.copy_(params["out"]["b"])
    return module


@each_way
@every_shape
def test_it_is_torchs_module_and_its_gradient_autograds(shape, causal):
    samples, tokens, features, heads = shape
    layer = fn.attention(features, heads, causal=causal)
    params, x, dy = layer.init(seeded(), dtype=torch.float64), normal(samples, tokens, features), normal(*shape[:3], seed=1)
    module, inputs = torch_attention(layer, params, features, heads), x.clone().requires_grad_()
    mask = torch.ones(tokens, tokens, dtype=torch.bool).triu(1) if causal else None
    expected = module(inputs, inputs, inputs, attn_mask=mask, need_weights=False)[0]
    expected.backward(dy)
    y, residuals = layer.forward(params, x)
    grads = {
        "qkv": {"w": module.in_proj_weight.grad.T, "b": module.in_proj_bias.grad},
        "out": {"w": module.out_proj.weight.grad.T, "b": module.out_proj.bias.grad},
    }
    assert_close(y, expected.detach(), 1e-10)
    assert_close(layer.backward(residuals, dy), (grads, inputs.grad), 1e-10)


@each_way
@every_shape
def test_torchs_kernel_gives_what_the_equations_give(shape, causal):
    samples, tokens, features, heads = shape
    layer = attend(features, heads, causal)
    qkv, dy = normal(samples, tokens, 3 * features), normal(samples, tokens, features, seed=1)
    (y, residuals), plain = layer.forward((), qkv), torch.func.vmap(lambda row: layer.forward((), row[None]))(qkv)
    assert_close(y, plain[0].squeeze(1), 1e-13)
    rows = torch.func.vmap(layer.backward)(plain[1], dy[:, None])[1]
    assert_close(layer.backward(residuals, dy)[1], rows.squeeze(1), 1e-12)


@each_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precisions_go_forward_and_back(dtype, causal):
    layer, x, dy = fn.attention(8, 2, causal=causal), normal(3, 6, 8), normal(3, 6, 8, seed=1)
    params = layer.init(seeded(), dtype=dtype)
    y, residuals = layer.forward(params, x.to(dtype))
    found = y, layer.backward(residuals, dy.to(dtype))
    assert {leaf.dtype for leaf in fn.tree.leaves(found)} == {dtype}
    wide = fn.tree.map(torch.Tensor.double, params)
    expected, kept = layer.forward(wide, x.to(dtype).double())
    expected = expected, layer.backward(kept, dy.to(dtype).double())
    assert_close(fn.tree.map(torch.Tensor.double, found), expected, 20 * torch.finfo(dtype).eps)


@each_way
def test_no_token_reads_from_a_later_one_where_it_is_causal(causal):
    layer, x = fn.attention(8, 2, causal=causal), normal(2, 6, 8)
    params = layer.init(seeded(), dtype=torch.float64)
    other = torch.cat([x[:, :4], normal(2, 2, 8, seed=1)], 1)
    same = torch.equal(layer(params, x)[:, :4], layer(params, other)[:, :4])
    assert same == causal


def test_enormous_scores_are_as_safe_as_small_ones():
    layer, qkv = attend(4, 1, True), 1e3 * normal(2, 5, 12)
    y, residuals = layer.forward((), qkv)
    q, k, v = (part.unsqueeze(1) for part in qkv.split(4, -1))
    assert_close(y, F.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1), 1e-12)
    assert layer.backward(residuals, y)[1].isfinite().all()


@pytest.mark.usefixtures("as_users_run_it")
def test_what_cannot_attend_is_refused():
    layer = fn.attention(6, 2)
    params = layer.init(seeded(), dtype=torch.float64)
    for call, message in (
        (lambda: fn.attention(6, 4), ("heads", "4", "divisor of the features, 6")),
        (lambda: fn.attention(0, 1), ("features", "0", "positive integer")),
        (lambda: fn.attention(6, 1.5), ("heads", "1.5", "positive integer")),
        (lambda: layer(params, normal(2, 6)), ("inputs of attention(6, 2)", "(2, 6)", "(N, T, 6)")),
        (lambda: layer(params, normal(2, 0, 6)), ("inputs of attention(6, 2)", "(2, 0, 6)", "at least 1")),
        (lambda: layer(params, normal(2, 3, 5)), ("inputs of params['qkv']", "(2, 3, 5)", "(N, ..., 6)")),
        (
            lambda: fn.parallel(layer, layer)((params, params), normal(2, 3, 6).float()),
            ("inputs of params[0]['qkv']", "float32", "float64 on cpu, as params[0]['qkv']['b']"),
        ),
        (lambda: layer(params | {"out": params["qkv"]}, normal(2, 3, 6)), ("params['out']['b']", "(18,)", "(6,)")),
        (lambda: layer({"qkv": params["qkv"]}, normal(2, 3, 6)), ("params", "['qkv']", "['out', 'qkv']")),
        (
            lambda: layer.backward(layer.forward(params, normal(2, 3, 6))[1], normal(2, 3, 5)),
            ("dy", "(2, 3, 5)", "(2, 3, 6)"),
        ),
    ):
        with pytest.raises(fn.InputError) as caught:
            call()
        assert says(caught.value, *message), caught.value
