"""Sparse gradients, whose dense form is compared."""

import pytest
import torch
from helpers import normal
from torch.nn import functional as F

import funcnn as fn

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")  # torch's own, of its invariants and of csr

W, INDEX = normal(7, 3), torch.tensor([0, 3, 3, 5])


def coo(index, dy):
    return torch.sparse_coo_tensor(index[None], dy, W.shape)  # row 3 is there twice: the two add up


def csr(index, dy):
    return coo(index, dy).coalesce().to_dense().to_sparse_csr()


def looked_up(gradient):
    return lambda w, index: (w[index], index), (W, INDEX), lambda index, dy: (gradient(index, dy), None)


def dense_and_sparse(kept, dy):
    w, x = kept
    return coo(INDEX, dy * x), dy * w[INDEX]


# name: (forward, inputs, backward)
RIGHT = {
    "coo": looked_up(coo),
    "csr": looked_up(csr),
    "coalesced": looked_up(lambda index, dy: coo(index, dy).coalesce()),
    "torch's own": (lambda w, index: F.embedding(index, w, sparse=True), (W, INDEX), None),
    "beside a dense one": (
        lambda w, x: (w[INDEX] * x, (w, x)),
        (W, normal(4, 3, seed=1)),
        dense_and_sparse,
    ),
    "float32": (lambda w, index: F.embedding(index, w, sparse=True), (W.float(), INDEX), None),
}
# name: (forward, inputs, backward, the cause, what is said)
WRONG = {
    "a row is left out": (*looked_up(lambda i, dy: coo(i[:3], dy[:3])), "single row", "entries in 2 of 7 rows: 0, 3"),
    "a factor 2": (*looked_up(lambda i, dy: 2 * coo(i, dy)), "factor 2", "entries in 3 of 7 rows: 0, 3, 5"),
    "csr, a sign": (*looked_up(lambda i, dy: csr(i, -dy)), "sign", "entries in 3 of 7 rows: 0, 3, 5"),
    "torch's own forward": (
        lambda w, index: (F.embedding(index, w, sparse=True), index),
        (W, INDEX),
        lambda index, dy: (coo(index, -dy), None),
        "sign",
        "entries in 3 of 7 rows: 0, 3, 5",
    ),
    "no entries": (*looked_up(lambda i, dy: coo(i[:0], dy[:0])), "zero", "entries in 0 of 7 rows"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_sparse_gradient_passes(name):
    forward, inputs, backward = RIGHT[name]
    report = fn.check_vjp(forward, inputs, backward=backward)
    assert report.ok and "sparse" not in str(report), report


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_sparse_gradient_is_named_with_its_places(name):
    forward, inputs, backward, cause, said = WRONG[name]
    finding = fn.check_vjp(forward, inputs, backward=backward).leaves["inputs[0]"]
    assert finding.verdict == "wrong" and finding.cause == cause and said in finding.diagnosis, finding


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_gradient_of_a_step_fn_is_compared(layout, factor):
    def value(params, batch):
        return params["w"][batch].square().sum() + params["b"].square().sum()

    def value_and_grad(params, batch):
        rows = torch.zeros_like(params["w"]).index_add(0, batch, 2 * params["w"][batch])
        return value(params, batch), {"w": factor * rows.to_sparse(layout=layout), "b": 2 * params["b"]}

    step_fn, params = fn.StepFn(value, value_and_grad), {"w": W, "b": normal(3)}
    report = fn.check(step_fn, params, INDEX)
    finding = report.leaves["params['w']"]
    assert report.ok == (factor == 1) and report.leaves["params['b']"].verdict == "ok"
    assert report.ok or (finding.cause == "factor 2" and "entries in 3 of 7 rows: 0, 3, 5" in finding.diagnosis)


def test_a_sparse_reference_is_compared():
    def value(params, batch):
        return F.embedding(batch, params, sparse=True).square().sum()

    reference = fn.autograd(fn.Objective(value))
    assert fn.check(fn.finite_difference(fn.Objective(value)), W, INDEX, reference=reference).ok
    report = fn.check(lambda params, batch: (value(params, batch), 4 * params), W, INDEX, reference=reference)
    assert report.leaves["params"].verdict == "wrong"
