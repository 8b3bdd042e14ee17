import pytest
import torch
from helpers import normal

import funcnn as fn
from funcnn.providers.batched import batched

X, Y = normal(4, 3), normal(4, 3, seed=1)


def python_if(x, y):
    return x * y if x.sum() > 0 else x + y


@pytest.mark.parametrize("function", [torch.dot, python_if, lambda x, y: {"sum": x + y, "item": x * y.sum().item()}])
def test_it_is_the_function_of_each_entry(function):
    expected = [function(x, y) for x, y in zip(X, Y, strict=True)]
    found = batched(function)(X, Y)
    for path, leaf, *entries in zip(
        fn.tree.paths(found), fn.tree.leaves(found), *map(fn.tree.leaves, expected), strict=True
    ):
        assert torch.allclose(leaf, torch.stack(entries), rtol=1e-14), path


def test_the_functions_own_error_is_what_comes_out():
    def broken(x):
        raise RuntimeError(f"my own, at {x.sum().item() > -100}")

    with pytest.raises(RuntimeError, match="my own, at True"):
        batched(broken)(X)


def test_what_refuses_its_input_is_heard():
    def refuses(x):
        raise fn.InputError("x", "a row", "something else")

    with pytest.raises(fn.InputError, match="^x: got a row, needs something else"):
        batched(refuses)(X)
