import math

import pytest
import torch
from helpers import assert_close, labels, normal, says, seeded

import funcnn as fn

LAYERS = {"rnn": (fn.rnn, torch.nn.RNN), "lstm": (fn.lstm, torch.nn.LSTM), "gru": (fn.gru, torch.nn.GRU)}
every_layer = pytest.mark.parametrize("name", LAYERS)


def of_torch(module):
    """The parameters of a module of torch as ours: of its two biases the sum, but for the candidate's of a gru."""
    wx, wh, bx, bh = (parameter.detach() for parameter in module.parameters())
    if not isinstance(module, torch.nn.GRU):
        return {"wx": wx.T, "wh": wh.T, "b": bx + bh}
    gates = 2 * module.hidden_size
    return {"wx": wx.T, "wh": wh.T, "b": torch.cat([bx[:gates] + bh[:gates], bx[gates:]]), "bn": bh[gates:]}


def gradients_of_torch(module, x, dy):
    """(y, (dparams, dx)) by torch's autograd, dparams in our words."""
    x = x.clone().requires_grad_()
    y, _ = module(x)
    wx, wh, bx, bh, dx = torch.autograd.grad(y, [*module.parameters(), x], dy)
    bn = {"bn": bh[2 * module.hidden_size :]} if isinstance(module, torch.nn.GRU) else {}
    return y.detach(), ({"wx": wx.T, "wh": wh.T, "b": bx, **bn}, dx)


# N, T, D, H
SHAPES = [(1, 1, 1, 1), (3, 1, 2, 4), (1, 9, 3, 2), (4, 6, 5, 3), (2, 40, 1, 7), (7, 3, 8, 1), (2, 12, 16, 16)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_layer
def test_it_is_the_module_of_torch_forward_and_back(name, shape):
    (n, t, d, h), (made, module) = shape, LAYERS[name]
    layer, module = made(d, h), module(d, h, batch_first=True, dtype=torch.float64)
    for index, parameter in enumerate(module.parameters()):
        parameter.data = normal(*parameter.shape, seed=index)
    x, dy = normal(n, t, d, seed=5), normal(n, t, h, seed=6)
    y, residuals = layer.forward(of_torch(module), x)
    expected = gradients_of_torch(module, x, dy)
    assert_close((y, layer.backward(residuals, dy)), expected, 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@every_layer
def test_every_precision_goes_forward_and_back(name, dtype):
    layer, x = LAYERS[name][0](3, 4), normal(5, 6, 3, dtype=dtype)
    params = layer.init(seeded(), dtype=dtype)
    y, residuals = layer.forward(params, x)
    found = y, layer.backward(residuals, y)
    assert {leaf.dtype for leaf in fn.tree.leaves(found)} == {dtype}
    exact, kept = layer.forward(fn.tree.map(torch.Tensor.double, params), x.double())
    expected = exact, layer.backward(kept, exact)
    assert_close(fn.tree.map(torch.Tensor.double, found), expected, 50 * torch.finfo(dtype).eps)


def checked(layer):
    """What fn.check says of a network that begins with the layer."""
    network = fn.serial(layer, fn.dense(2, 3))
    params, batch = network.init(seeded()), (normal(3, 3, 2), labels(9, 3).reshape(3, 3))
    return fn.check(fn.explicit(fn.supervised(network, fn.softmax_cross_entropy())), params, batch)


def test_the_check_finds_a_pullback_wrong_that_forgets_the_last_output():
    layer = fn.rnn(2, 2)
    forgetful = layer._replace(backward=lambda kept, dy: layer.backward(kept, torch.cat([dy[:, :-1], 0 * dy[:, -1:]], 1)))
    assert checked(layer) and not checked(forgetful)


@pytest.mark.parametrize("radius", [0.5, 0.9, 1.0, 1.2, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_through_time_shrink_or_grow_as_the_spectral_radius_says(radius, seed):
    tokens, hidden, layer = 200, 6, fn.rnn(1, 6)
    wh = normal(hidden, hidden, seed=seed)
    wh = wh + wh.T  # its eigenvalues are real, so the largest one alone shows
    params = {
        "wx": torch.zeros(1, hidden),
        "wh": radius * wh / torch.linalg.eigvalsh(wh).abs().max(),
        "b": torch.zeros(hidden),
    }
    params = fn.tree.map(torch.Tensor.double, params)
    residuals = layer.forward(params, torch.zeros(1, tokens, 1, dtype=torch.float64))[1]  # h = 0, where tanh is linear
    dy = torch.zeros(1, tokens, hidden, dtype=torch.float64)
    dy[:, -1] = normal(hidden, seed=seed + 10)
    dh = layer.backward.summands(residuals, dy)["wx"].dy[0]  # dL/da_t = dL/dh_t
    logarithms = dh.norm(dim=1).log()
    slope = (logarithms[20] - logarithms[120]) / 100
    assert abs(slope - math.log(radius)) < 1e-3


@every_layer
def test_a_text_cut_into_chunks_is_learned_chunk_by_chunk_and_no_gradient_crosses_a_border(name):
    network = fn.serial(LAYERS[name][0](5, 8), fn.dense(8, 5))
    letters = torch.arange(25).remainder(5).expand(3, -1)
    text, following = torch.eye(5, dtype=torch.float64)[letters[:, :-1]], letters[:, 1:]
    step_fn = fn.explicit(fn.supervised(network, fn.softmax_cross_entropy()))
    params = network.init(seeded(), dtype=torch.float64)
    chunks = [*zip(text.split(6, dim=1), following.split(6, dim=1), strict=True)]
    *_, last = fn.train(step_fn, fn.adam(0.05), params, chunks * 30)
    assert last.value < 0.1 * step_fn.value(params, chunks[0])
    alone = [step_fn(params, chunk)[1] for chunk in chunks]
    cut = fn.tree.map(lambda *grads: torch.stack(grads).mean(0), *alone)
    stacked = step_fn(params, tuple(torch.cat(part) for part in zip(*chunks, strict=True)))[1]
    assert_close(cut, stacked, 1e-14)
    whole = step_fn(params, (text, following))[1]
    assert fn.tree.max_difference(cut, whole) > 1e-4


@pytest.mark.parametrize(("features", "seed"), [(1, 0), (2, 1), (7, 2), (50, 3)])
@every_layer
def test_initial_values_fill_the_interval_of_half_width_one_over_the_root_of_the_state(name, features, seed):
    params, bound = LAYERS[name][0](200, features).init(seeded(seed)), 1 / math.sqrt(features)
    sizes = {key: leaf.shape for key, leaf in of_torch(LAYERS[name][1](200, features)).items()}
    assert {key: leaf.shape for key, leaf in params.items()} == sizes
    assert all(leaf.abs().max() <= bound for leaf in params.values())
    assert params["wx"].max() > 0.8 * bound and params["wx"].min() < -0.8 * bound and abs(params["wx"].mean()) < 0.25 * bound


X = normal(5, 4, 3)

# name: (x, what was found, what is needed)
INPUTS = {
    "an empty sequence": (X[:, :0], "(5, 0, 3)", "(N, T, 3) with at least one token"),
    "one token without its axis": (X[:, 0], "(5, 3)", "(N, T, 3)"),
    "an axis too many": (X[None], "(1, 5, 4, 3)", "(N, T, 3)"),
    "tokens too narrow": (X[..., :2], "(5, 4, 2)", "(N, T, 3)"),
    "integers": (X.long(), "int64", "float"),
    "another dtype": (X.float(), "float32", "float64"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("inputs", INPUTS)
@every_layer
def test_inputs_that_do_not_fit_are_refused_at_the_door(name, inputs):
    layer, (x, *message) = LAYERS[name][0](3, 2), INPUTS[inputs]
    for network, place in ((layer, ""), (fn.serial(layer, fn.dense(2, 1)), "[0]")):
        with pytest.raises(fn.InputError) as caught:
            network.forward(network.init(seeded(), dtype=torch.float64), x)
        assert f"params{place}" in str(caught.value) or f"{name}(3, 2)" in str(caught.value)
        assert says(caught.value, str(caught.value).partition(": got")[0], *message)


# name: (which parameter, what stands there, what is needed)
PARAMETERS = {
    "wx transposed": ("wx", lambda leaf: leaf.T, "shape"),
    "wh of another width": ("wh", lambda leaf: leaf[:, 1:], "shape"),
    "b in a row": ("b", lambda leaf: leaf[None], "shape"),
    "integers": ("wh", torch.Tensor.long, "floating"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("parameter", PARAMETERS)
@every_layer
def test_parameters_that_do_not_fit_are_refused_by_name(name, parameter):
    layer, (key, change, needed) = LAYERS[name][0](3, 2), PARAMETERS[parameter]
    params = layer.init(seeded(), dtype=torch.float64)
    with pytest.raises(fn.InputError) as caught:
        layer.forward(params | {key: change(params[key])}, X)
    assert says(caught.value, f"params[{key!r}]", "", needed)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (2.5, 3), (3, True)], ids=str)
@every_layer
def test_sizes_are_positive_integers(name, sizes):
    with pytest.raises(fn.InputError, match="needs a positive integer"):
        LAYERS[name][0](*sizes)
