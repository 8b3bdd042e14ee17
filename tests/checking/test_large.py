import pytest
import torch
from helpers import labels, normal, seeded

import funcnn as fn
from funcnn.checking.piece import piece

HALF = torch.bfloat16


def taped(forward, backward):
    """A torch.autograd.Function of these two, and how often it was evaluated at full size."""
    sizes = []

    class Taped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            sizes.append(sum(x.numel() for x in inputs))
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx, dy):
            return backward(*ctx.saved_tensors, dy)

    return Taped, sizes


def scaled(x, w):
    return x * w


def of_scaled(x, w, dy):
    return dy * w, (dy * x).sum(0)


def only_where_large(x, w, dy):
    dx = dy * w
    if x.numel() > 100_000:
        dx[299, 77] *= 1.1
    return dx, (dy * x).sum(0)


def looked_up(tokens, table):
    return table[tokens]


def of_looked_up(tokens, table, dy):
    return None, torch.zeros_like(table).index_put((tokens,), dy, accumulate=True)


def overwritten(tokens, table, dy):  # the last of repeated tokens alone
    return None, torch.zeros_like(table).index_put((tokens,), dy)


def fixed(x):
    return x.reshape(300, 400).sin()


def of_fixed(x, dy):
    return (dy * x.reshape(300, 400).cos()).reshape(x.shape)


OPERANDS = normal(300, 400), normal(400, seed=1)
TOKENS = torch.randint(3000, (500,), generator=seeded()), normal(3000, 64)
FLAT = (normal(120_000),)
RULES = {
    "a product": (scaled, of_scaled, OPERANDS, "a piece of the inputs, (19, 25), (25,)"),
    "an index": (looked_up, of_looked_up, TOKENS, "a piece of the inputs, (16,), (94, 4)"),
    "a fixed size": (fixed, of_fixed, FLAT, "no piece of them could be tried"),
}
WRONG = {
    "twice": (scaled, lambda x, w, dy: (2 * dy * w, (dy * x).sum(0)), OPERANDS, "inputs[0]", "factor 2"),
    "no sum": (scaled, lambda x, w, dy: (dy * w, (dy * x)[0]), OPERANDS, "inputs[1]", ""),
    "one entry": (scaled, only_where_large, OPERANDS, "inputs[0]", "single entry"),
    "repeated tokens": (looked_up, overwritten, TOKENS, "inputs[1]", ""),
    "a fixed size": (fixed, lambda x, dy: -of_fixed(x, dy), FLAT, "inputs[0]", "sign"),
}


@pytest.mark.parametrize("dtype", [torch.float64, HALF])
@pytest.mark.parametrize("case", RULES.values(), ids=RULES)
def test_a_large_rule_that_is_right_passes_and_what_was_tried_is_said(case, dtype):
    forward, backward, operands, remark = case
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in operands)
    report = fn.check_vjp(taped(forward, backward)[0], inputs)
    assert report.ok and remark in str(report), report


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_large_rule_that_is_wrong_is_found_and_named(case):
    forward, backward, inputs, path, cause = case
    report = fn.check_vjp(taped(forward, backward)[0], inputs)
    found = report.leaves[path]
    assert [name for name, leaf in report.leaves.items() if leaf.verdict != "ok"] == [path], report
    assert found.verdict == "wrong" and (not cause or found.cause == cause), report


def test_one_wrong_entry_of_many_is_found_where_it_is():
    found = fn.check_vjp(taped(scaled, only_where_large)[0], OPERANDS).leaves["inputs[0]"]
    assert found.worst_index == (299, 77) and "only [299, 77] is wrong" in found.diagnosis


@pytest.mark.parametrize(("backward", "most"), [(of_scaled, 12), (WRONG["twice"][1], 16)], ids=["right", "wrong"])
def test_a_large_rule_is_evaluated_a_few_times(backward, most):
    rule, sizes = taped(scaled, backward)
    fn.check_vjp(rule, OPERANDS)
    assert sizes.count(sum(x.numel() for x in OPERANDS)) <= most


def test_a_wrong_leaf_is_not_hidden_by_a_leaf_whose_gradient_is_larger():
    def value(w, batch):
        return 1e4 * w["large"].square().sum() + w["small"].sin().sum()

    def step(factor):
        def value_and_grad(w, batch):
            return value(w, batch), {"large": 2e4 * w["large"], "small": factor * w["small"].cos()}

        return fn.Objective(value, value_and_grad)

    w = {"large": normal(300), "small": normal(30, seed=1)}
    assert fn.check(fn.explicit(step(1)), w).ok
    report = fn.check(fn.explicit(step(1 + 1e-5)), w)
    assert [leaf.verdict for leaf in report.leaves.values()] == ["ok", "wrong"]


PIECES = {  # operands, and the shapes and numbers of their piece
    "one factor for all axes": ([normal(4, 1024, 64), normal(2048, 64)], [(4, 16, 4), (32, 4)]),
    "a length among the inputs": ([normal(1024, 512), 512, 3, True, 0.5], [(16, 8), 8, 3, True, 0.5]),
    "a length that is no multiple": ([normal(1000, 300)], [(32, 10)]),
}


@pytest.mark.parametrize(("operands", "expected"), PIECES.values(), ids=PIECES)
def test_the_piece_of_some_inputs(operands, expected):
    assert [tuple(x.shape) if isinstance(x, torch.Tensor) else x for x in piece(operands)] == expected


def test_indices_of_a_piece_are_within_it():
    tokens, table = piece([torch.arange(1000), normal(1000, 300)])
    assert tokens.max() < len(table)


def test_short_axes_have_no_piece():
    assert piece([normal(*[4] * 9)]) is None


def test_a_wrong_entry_among_those_of_a_transformer_is_found_and_the_rest_is_right():
    layer, batch = fn.transformer(31, 8, 64, 4, 2), (labels(16, 31).reshape(2, 8), labels(16, 31, seed=1).reshape(2, 8))
    params, step_fn = (
        layer.init(seeded(), dtype=torch.float64),
        fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy())),
    )
    wrong = "params[3][1]['w']"

    def mistaken(params, batch):
        value, grads = step_fn(params, batch)
        leaves, unflatten = fn.tree.flatten(grads)
        where = fn.tree.paths(grads).index(wrong)
        entry = leaves[where].abs().flatten().argsort()[leaves[where].numel() // 2]
        leaves[where] = (
            torch.where(torch.arange(leaves[where].numel()) == entry, 2, 1).reshape(leaves[where].shape) * leaves[where]
        )
        return value, unflatten(leaves)

    assert sum(leaf.numel() for leaf in fn.tree.leaves(params)) > 100_000
    assert fn.check(step_fn, params, batch)
    report = fn.check(fn.StepFn(step_fn.value, mistaken), params, batch)
    assert [path for path, found in report.leaves.items() if found.verdict != "ok"] == [wrong]
