from itertools import product

import pytest
import torch
from helpers import assert_close, normal
from torch.fx.experimental.proxy_tensor import make_fx

from funcnn.optimizers.products import FORMS

aten = torch.ops.aten
SHAPES = {
    "few columns": (40, 24, 10),
    "one column": (16, 7, 1),
    "few rows": (7, 24, 10),
    "wide": (20, 9, 16),
    "no terms": (32, 0, 2),
}
# name: a matrix of other strides, with the same numbers
STRIDES = {
    "rows": lambda x: x.contiguous(),
    "columns": lambda x: x.T.contiguous().T,
    "every other column": lambda x: x.repeat_interleave(2, 1)[:, ::2],
}
DTYPES = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.int64: 0}


def traced(function, *operands):
    """The operations of the traced function, and what the graph returns."""
    graph = make_fx(function, FORMS)(*operands)
    return [node.target for node in graph.graph.nodes if node.op == "call_function"], graph(*operands)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_form_of_a_product_is_the_product(shape):
    m, k, h = SHAPES[shape]
    for (dtype, tolerance), strided in product(DTYPES.items(), STRIDES.values()):
        a, b, c = (strided(8 * normal(*sides, seed=sum(sides))).to(dtype) for sides in ((m, k), (k, h), (m, h)))
        form = FORMS[aten.mm.default](a, b)
        for result, expected in (
            (a @ b if form is NotImplemented else form, a @ b),
            (FORMS[aten.addmm.default](c[0], a, b), torch.addmm(c[0], a, b)),
            (FORMS[aten.addmm.default](c, a, b), torch.addmm(c, a, b)),
        ):
            assert result.dtype == dtype
            assert_close(result, expected, tolerance)


def test_few_columns_are_computed_as_few_rows():
    for m, h, turned in ((16, 15, True), (15, 15, False), (16, 16, False)):
        operations, _ = traced(torch.mm, normal(m, 8), normal(8, h))
        assert (operations != [aten.mm.default]) == turned


def test_a_sum_with_factors_stays_as_it_is():
    b, x, w = normal(4), normal(5, 3), normal(3, 4)
    for factors in ({"beta": 2}, {"alpha": 0.5}, {"beta": 0}):
        operations, result = traced(lambda *operands, factors=factors: torch.addmm(*operands, **factors), b, x, w)
        assert operations == [aten.addmm.default]
        assert_close(result, torch.addmm(b, x, w, **factors), 1e-15)
