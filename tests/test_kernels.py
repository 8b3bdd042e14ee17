import pytest
import torch
from helpers import assert_close, normal
from torch.autograd import forward_ad

import funcnn as fn
from funcnn import kernels

M, K, H = 128, 128, 128  # large enough for oneDNN
SERIES = torch.randn(M + K, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
# name: a matrix of any strides, as large as the one given
LAYOUTS = {
    "rows": lambda x: x.contiguous(),
    "columns": lambda x: x.T.contiguous().T,
    "every other column": lambda x: x.repeat(1, 2)[:, ::2],
    "every other row": lambda x: x.repeat(2, 1)[::2],
    "part of a wider matrix": lambda x: torch.cat([x, x], 1)[:, 3 : 3 + x.shape[1]],
    "one row for all": lambda x: x[:1].expand(x.shape),
    "one column for all": lambda x: x[:, :1].expand(x.shape),
    "one number for all": lambda x: x[0, 0].expand(x.shape),
    "overlapping windows": lambda x: SERIES.unfold(0, x.shape[1], 1)[: x.shape[0]],
    "overlapping windows, turned": lambda x: SERIES.unfold(0, x.shape[0], 1)[: x.shape[1]].T,
    "an offset": lambda x: torch.cat([torch.zeros(1), x.flatten()]).float()[1:].reshape(x.shape),
}
# name: a vector of any stride, as long as the one given
VECTORS = {
    "as it is": lambda b: b,
    "every fourth number": lambda b: torch.randn(len(b), 4, generator=torch.Generator().manual_seed(1)).float()[:, 0],
    "one number for all": lambda b: b[0].expand(len(b)),
    "one number for all, by itself": lambda b: torch.tensor([0.5], dtype=torch.float32)[0].expand(len(b)),
    "part of a longer one": lambda b: torch.cat([b, b])[5 : 5 + len(b)],
    "a column": lambda b: torch.stack([b, b, b], 1)[:, 1],
}


@pytest.fixture
def onednn(monkeypatch):
    """Whatever the processor is, the fast product serves where there is one."""
    calls = []

    def spy(x, w, b, original=kernels._onednn):
        calls.append(x.shape)
        return original(x, w, b)

    monkeypatch.setattr(kernels, "zen", lambda: 5 * torch.backends.mkldnn.is_available())
    monkeypatch.setattr(kernels, "_onednn", spy)
    return calls


def matrices(dtype=torch.float32):
    a, b = normal(M, K, seed=1), normal(K, H, seed=2)
    return a.to(dtype), b.to(dtype), normal(H, seed=3).to(dtype)


def assert_accurate(result, exact):
    assert (result.double() - exact).abs().max() / exact.abs().max() < 1e-6


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_products_are_right_whatever_the_strides(onednn, left, right):
    a, b, _ = matrices()
    a, b = LAYOUTS[left](a), LAYOUTS[right](b)
    # Equal summands have equal roundings, which add up: the bound is that of any order of K additions.
    errors = (kernels.matmul(a, b).double() - a.double() @ b.double()).abs()
    assert (errors <= K * torch.finfo(a.dtype).eps * (a.abs().double() @ b.abs().double())).all()
    if not {"one number for all", "one row for all"} & {left, right}:
        assert_accurate(kernels.matmul(a, b), a.double() @ b.double())
    assert bool(onednn) == torch.backends.mkldnn.is_available()


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("layout", ["rows", "columns", "overlapping windows"])
def test_biases_are_added_whatever_their_stride(onednn, vector, layout):
    x, w, b = matrices()
    x, b = LAYOUTS[layout](x), VECTORS[vector](b)
    assert_accurate(kernels.affine(x, w, b), x.double() @ w.double() + b.double())
    assert_accurate(kernels.affine(x, LAYOUTS[layout](w), b), x.double() @ LAYOUTS[layout](w).double() + b.double())
    assert len(onednn) == 2 * torch.backends.mkldnn.is_available()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_dense_layer_is_right_forward_and_backward_whatever_the_strides(onednn, layout):
    dense, change = fn.dense(K, H), LAYOUTS[layout]
    x, w, b = matrices()
    for operands in ((change(x), w, x), (x, change(w), x), (x, w, change(x))):
        x_, w_, dy = operands
        y, residuals = dense.forward({"w": w_, "b": VECTORS["every fourth number"](b)}, x_)
        dparams, dx = dense.backward(residuals, dy)
        assert_accurate(y, x_.double() @ w_.double() + VECTORS["every fourth number"](b).double())
        assert_accurate(dparams["w"], x_.T.double() @ dy.double())
        assert_accurate(dparams["b"], dy.double().sum(0))
        assert_accurate(dx, dy.double() @ w_.T.double())
    assert onednn


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


# name: (what /proc/cpuinfo says, the generation of Zen where oneDNN has something better, on a processor with AVX-512)
PROCESSORS = {
    "Zen 4": ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 97\n", 4),
    "Zen 5": ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n", 5),
    "after Zen 5": ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 27\n", 5),
    "Intel": ("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n", 0),
    "Intel of a later family": ("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 26\n", 0),
    "ARM": ("processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU architecture: 8\n", 0),
    "a broken byte": ("vendor_id\t: AuthenticAMD\nmodel name\t: \udcff\ncpu family\t: 26\n", 5),
    "nothing": ("", 0),
}


@pytest.fixture
def with_both(monkeypatch):
    """A torch that was built with oneDNN and MKL, on a processor with AVX-512."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    return kernels.zen.__wrapped__


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_product_is_chosen_by_what_the_processor_is(name, with_both, monkeypatch, tmp_path):
    text, generation = PROCESSORS[name]
    (tmp_path / "cpuinfo").write_text(text, errors="surrogateescape")
    monkeypatch.setattr(kernels, "Path", lambda path: {"/proc/cpuinfo": tmp_path / "cpuinfo"}[path])
    assert with_both() == generation


@pytest.mark.parametrize(
    ("processor", "generation"),
    [
        ("AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD", 5),
        ("AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD", 4),
        ("Intel64 Family 6 Model 143 Stepping 8, GenuineIntel", 0),
        ("arm", 0),
        ("", 0),
    ],
)
def test_where_there_is_no_proc_the_platform_is_asked(processor, generation, with_both, monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "Path", lambda path: tmp_path / "missing")
    monkeypatch.setattr(kernels.platform, "processor", lambda: processor)
    assert with_both() == generation


def test_zen_3_is_of_the_family_of_zen_4_and_has_not_its_vectors(with_both, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(PROCESSORS["Zen 4"][0])
    monkeypatch.setattr(kernels, "Path", lambda path: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert with_both() == 0


@pytest.mark.parametrize("generation", [0, 4, 5])
def test_on_zen_4_onednn_serves_what_is_larger_and_lies_row_by_row(generation, onednn, monkeypatch):
    monkeypatch.setattr(kernels, "zen", lambda: generation)
    monkeypatch.setattr(kernels, "LARGE_ON_ZEN_4", 2 * M * K * H)
    a, b, _ = matrices()
    larger = torch.cat([a, a])
    for given, first in ((larger, 4), (LAYOUTS["columns"](larger), 5), (a, 5)):
        onednn.clear()
        kernels.matmul(given, b)
        assert bool(onednn) == (generation >= first)


def test_no_clock_is_asked_and_two_runs_give_the_same_bits(monkeypatch):
    for clock in ("perf_counter", "time", "monotonic", "process_time"):
        monkeypatch.setattr(f"time.{clock}", lambda: pytest.fail("measured"))
    chosen = [kernels.zen.__wrapped__() for _ in range(3)]
    assert len(set(chosen)) == 1
    a, b, bias = matrices()
    for product in (lambda: kernels.matmul(a, b), lambda: kernels.affine(a, b, bias)):
        assert torch.equal(product(), product())


def test_without_onednn_the_products_are_plain(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(kernels, "zen", kernels.zen.__wrapped__)
    a, b, bias = matrices()
    assert torch.equal(kernels.matmul(a, b), a @ b)
    assert torch.equal(kernels.affine(a, b, bias), torch.addmm(bias, a, b))


def test_the_pullbacks_are_the_rules_derived_by_hand():
    x, dy = 8 * normal(50, 7), normal(50, 7, seed=1)
    s, t = x.sigmoid(), x.tanh()
    assert_close(kernels.sigmoid_pullback(s, dy), dy * s * (1 - s), 1e-15)
    assert_close(kernels.tanh_pullback(t, dy), dy * (1 - t * t), 1e-15)
    y = torch.tensor([-1.0, 0.0, 2.0, torch.nan, torch.inf])
    assert_close(kernels.relu_pullback(y, torch.arange(1.0, 6.0)), torch.tensor([0.0, 0.0, 3.0, 4.0, 5.0]), 0)


@pytest.mark.parametrize("factor", [1, -0.25, 1e300])
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
    monkeypatch.setattr(kernels, "zen", lambda: 0)
    steps = fn.train(fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy())), fn.sgd(0.5), params, [batch] * 5)
    for one, other in zip(fast, (step.params for step in steps), strict=True):
        assert_close(one, other, 1e-6)
