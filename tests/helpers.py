import torch

import funcnn as fn

EPS = torch.finfo(torch.float64).eps

# How far each provider may be from the truth, relative to gradients of order 1: a hundred times the error that its
# scheme must have, which is rounding alone, or rounding balanced against truncation.
TOLERANCES = {
    "explicit": 100 * EPS,
    "func_grad": 100 * EPS,
    "autograd": 100 * EPS,
    "forward_difference": 100 * EPS ** (1 / 2),
    "backward_difference": 100 * EPS ** (1 / 2),
    "central_difference": 100 * EPS ** (2 / 3),
    "complex_step": 100 * EPS,
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def labels(count, classes, seed=0):
    return torch.randint(classes, (count,), generator=seeded(seed))


def assert_close(actual, expected, tolerance):
    """The largest difference is at most tolerance times the largest entry expected, or times 1 if that is larger."""
    assert fn.tree.paths(actual) == fn.tree.paths(expected)
    for path, x, y in zip(fn.tree.paths(expected), fn.tree.leaves(actual), fn.tree.leaves(expected), strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype, path
        limit = tolerance * max(1.0, y.abs().max().item() if y.numel() else 0.0)
        assert torch.allclose(x, y, rtol=0, atol=limit), f"{path}: {(x - y).abs().max():g} > {limit:g}"


def same_bits(tree, other):
    leaves, others = fn.tree.leaves(tree), fn.tree.leaves(other)
    return fn.tree.paths(tree) == fn.tree.paths(other) and all(map(_same_leaf, leaves, others))


def _same_leaf(x, y):
    if not isinstance(x, torch.Tensor):
        return x == y
    return x.dtype == y.dtype and x.shape == y.shape and torch.equal(x.nan_to_num(), y.nan_to_num())


def one_by_one(function, batch):
    """What a function of batches returns for each sample alone, stacked."""
    count = len(fn.tree.leaves(batch)[0])
    alone = [function(fn.tree.map(lambda leaf, n=n: leaf[n : n + 1], batch)) for n in range(count)]
    return fn.tree.map(lambda *leaves: torch.stack(leaves), *alone)


def numerical_gradient(function, x):
    """Central differences of a scalar function, one entry after another, with none of the library's code."""
    h, flat, slopes = torch.finfo(x.dtype).eps ** (1 / 3), x.flatten(), []
    for index in range(flat.numel()):
        up, down = flat.clone(), flat.clone()
        up[index] += h
        down[index] -= h
        rise = function(up.reshape(x.shape)) - function(down.reshape(x.shape))
        slopes.append(rise / (up[index] - down[index]))
    return torch.stack(slopes).reshape(x.shape).to(x.dtype)


def quadratic(eigenvalues):
    """The objective 1/2 w^T A w with A diagonal; the batch is ignored."""
    return fn.Objective(lambda w, batch: 0.5 * (eigenvalues * w * w).sum())


NO_DATA = torch.zeros(1)


def classifier(sizes=(3, 4, 2), activation=fn.tanh, seed=0, count=8):
    """A small mlp: (objective, parameters, batch)."""
    layer = fn.mlp(sizes, activation)
    batch = normal(count, sizes[0], seed=seed + 1), labels(count, sizes[-1], seed=seed + 2)
    return fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded(seed)), batch


def says(error, place, found, needed):
    """Whether the error is one and its message `place: got ... found ..., needs ... needed ...`."""
    got, _, needs = str(error).removeprefix(f"{place}: got ").partition(", needs ")
    assert isinstance(error, ValueError)
    assert str(error).startswith(f"{place}: got ") and found in got and needed in needs, str(error)
    return True
