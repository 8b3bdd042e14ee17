import pytest
import torch
from helpers import assert_close, normal
from torch.autograd import forward_ad

import funcnn as fn
from funcnn import kernels

M, K, H = 128, 128, 128  # large enough for oneDNN
LAYOUTS = {
    "rows": lambda x: x.contiguous(),
    "columns": lambda x: x.T.contiguous().T,
    "slices": lambda x: x.repeat(1, 2)[:, ::2],
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


@pytest.fixture
def onednn(monkeypatch):
    """Whatever the measurement on this machine says, the fast product serves where there is one."""
    calls = []

    def spy(x, w, b, original=kernels._onednn):
        calls.append(x.shape)
        return original(x, w, b)

    monkeypatch.setattr(kernels, "onednn_is_faster", torch.backends.mkldnn.is_available)
    monkeypatch.setattr(kernels, "_onednn", spy)
    return calls


def matrices(dtype=torch.float32):
    a, b = normal(M, K, seed=1), normal(K, H, seed=2)
    return a.to(dtype), b.to(dtype), normal(H, seed=3).to(dtype)


@every_layout
def test_products_are_as_accurate_as_those_of_torch(onednn, layout):
    a, b, bias = matrices()
    exact = layout(a).double() @ layout(b).double()
    scale = exact.abs().max()
    for result, reference in ((kernels.matmul(layout(a), layout(b)), exact), (kernels.affine(a, layout(b), bias), None)):
        reference = a.double() @ layout(b).double() + bias if reference is None else reference
        assert (result.double() - reference).abs().max() / scale < 1e-6
    assert len(onednn) == 2 * torch.backends.mkldnn.is_available()


def test_small_products_and_other_dtypes_are_plain(onednn):
    small = normal(4, 5, dtype=torch.float32), normal(5, 3, dtype=torch.float32)
    narrow = normal(1, 2048, dtype=torch.float32), normal(2048, 1024, dtype=torch.float32)
    for a, b in (small, narrow, matrices(torch.float64)[:2]):
        assert torch.equal(kernels.matmul(a, b), a @ b)
    assert not onednn


def test_wherever_somebody_differentiates_the_product_is_plain(onednn):
    a, b, bias = matrices()
    ones = torch.ones(M, H, dtype=torch.float32)
    wanted = ones @ b.T
    leaf = a.clone().requires_grad_()
    kernels.matmul(leaf, b).sum().backward()
    assert_close(leaf.grad, wanted, 1e-5)
    assert_close(torch.func.grad(lambda a: kernels.affine(a, b, bias).sum())(a), wanted, 1e-5)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(a, torch.ones_like(a))
        assert_close(forward_ad.unpack_dual(kernels.matmul(dual, b)).tangent, torch.ones_like(a) @ b, 1e-5)
    assert_close(torch.func.vmap(lambda a: kernels.matmul(a, b))(torch.stack([a, 2 * a]))[1], 2 * a @ b, 1e-5)
    offset = bias.clone().requires_grad_()
    kernels.affine(a, b, offset).sum().backward()
    assert_close(offset.grad, ones.sum(0), 1e-5)
    assert not onednn


def test_one_measurement_serves_for_good(monkeypatch):
    first = kernels.onednn_is_faster()
    monkeypatch.setattr(kernels, "_seconds", lambda *arguments: pytest.fail("measured again"))
    assert kernels.onednn_is_faster() == first


def test_without_onednn_the_products_are_plain(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(kernels, "onednn_is_faster", kernels.onednn_is_faster.__wrapped__)
    a, b, bias = matrices()
    assert torch.equal(kernels.matmul(a, b), a @ b)
    assert torch.equal(kernels.affine(a, b, bias), torch.addmm(bias, a, b))


def test_the_pullbacks_are_the_rules_derived_by_hand():
    x, dy = 8 * normal(50, 7), normal(50, 7, seed=1)
    s, t = x.sigmoid(), x.tanh()
    assert_close(kernels.sigmoid_pullback(s, dy), dy * s * (1 - s), 1e-15)
    assert_close(kernels.tanh_pullback(t, dy), dy * (1 - t * t), 1e-15)


@pytest.mark.parametrize("factor", [1, -0.25])
def test_lists_are_added_pair_by_pair_under_vmap_too(factor):
    xs, ys = [normal(3, 2), normal(3)], [normal(3, 2, seed=1), normal(3, seed=2)]
    expected = [x + factor * y for x, y in zip(xs, ys, strict=True)]
    assert_close(kernels.add_scaled(xs, factor, ys), expected, 1e-15)
    assert_close(torch.func.vmap(lambda xs, ys: kernels.add_scaled(xs, factor, ys))(xs, ys), expected, 1e-15)
    assert kernels.add_scaled([], factor, []) == []


def test_a_large_network_trains_alike_with_either_product(onednn, monkeypatch):
    layer = fn.mlp((K, H, 10))
    params = layer.init(torch.Generator().manual_seed(0), dtype=torch.float32)
    batch = normal(M, K, dtype=torch.float32), torch.arange(M) % 10
    steps = fn.train(fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy())), fn.sgd(0.5), params, [batch] * 5)
    fast = [step.params for step in steps]
    monkeypatch.setattr(kernels, "onednn_is_faster", lambda: False)
    steps = fn.train(fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy())), fn.sgd(0.5), params, [batch] * 5)
    for one, other in zip(fast, (step.params for step in steps), strict=True):
        assert_close(one, other, 1e-6)
