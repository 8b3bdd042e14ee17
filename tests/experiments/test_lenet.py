import gzip
import json
import math
import struct

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, normal, seeded

import funcnn as fn
from experiments import __main__ as command_line
from experiments.lenet import LeNet, loop
from experiments.lenet.digits import TEST, TRAIN, Digits, as_signs, drawn
from experiments.lenet.layers import connected, surrounded, units
from experiments.lenet.networks import TABLE, Classic1989, lenet_5, network_of_1989, of_1989

FLOAT64 = {"dtype": torch.float64, "device": "cpu"}
SEES = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]).bool()
HALVED = fn.conv2d(3, 4, 2, stride=2, bias=False)


def map_by_map(params, x):
    """A convolution for each map, of the maps that it sees alone."""
    parts = [F.conv2d(x[:, row], kernel[None], stride=2) for row, kernel in zip(SEES, params["w"], strict=True)]
    return torch.cat(parts, 1)


# name: (layer, x, the same function in torch's words)
OWN = {
    "surrounded": (surrounded(2, -1.0), normal(3, 2, 2, 3), lambda params, x: F.pad(x, (2, 2, 2, 2), value=-1.0)),
    "units": (units(2, 2, 3), normal(3, 2, 2, 3), lambda params, x: x + params["b"]),
    "connected": (connected(HALVED, SEES), normal(3, 3, 4, 4), map_by_map),
}

every_layer = pytest.mark.parametrize("name", OWN)


@every_layer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_a_layer_claims_of_itself_is_so(name, dtype):
    layer, x, _ = OWN[name]
    report = fn.laws(layer, layer.init(seeded(), dtype=dtype), x.to(dtype))
    assert report and report.leaves, report


@every_layer
def test_a_layer_is_its_formula_and_its_pullback_that_of_it(name):
    layer, x, formula = OWN[name]
    params = fn.tree.map(lambda leaf: leaf + normal(*leaf.shape), layer.init(seeded(), dtype=torch.float64))
    y, residuals = layer.forward(params, x)
    assert_close(y, formula(params, x), 1e-14)
    dy = normal(*y.shape, seed=1)
    assert_close(layer.backward(residuals, dy), torch.func.vjp(formula, params, x)[1](dy), 1e-14)
    report = fn.check_vjp(layer, (params, x))
    assert report, report


def wrong(layer, half, **rules):
    return layer._replace(**{half: getattr(layer, half)._replace(**rules)})


def other_maps(residuals, dy):
    right = OWN["connected"][0].backward.summands(residuals, dy)["w"].each()
    return {"w": fn.Rows(right.flip(2))}


# name: (layer, x, what is wrong with it)
MISTAKES = {
    "the frame moves with the image": (
        wrong(OWN["surrounded"][0], "forward", carry=lambda p, x, y: lambda column: column.copies(x).new_zeros(1)),
        "surrounded",
        "forward.carry of channels",
    ),
    "a unit in place of another": (
        wrong(
            OWN["units"][0],
            "forward",
            moves=lambda p, x: {"b": lambda e, h: OWN["units"][0].forward.moves(p, x)["b"](e.flip(0), h)},
        ),
        "units",
        "forward.moves['b']",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_claim_that_is_not_so_is_named(name):
    layer, own, claim = MISTAKES[name]
    report = fn.laws(layer, layer.init(seeded(), dtype=torch.float64), OWN[own][1])
    assert not report and report.leaves[claim].verdict == "wrong"


def test_a_gradient_of_the_wrong_maps_is_found():
    layer, x, _ = OWN["connected"]
    report = fn.check_vjp(wrong(layer, "backward", summands=other_maps), (layer.init(seeded(), dtype=torch.float64), x))
    assert report.leaves["inputs[0]['w']"].verdict == "wrong" and report.leaves["inputs[1]"].verdict == "ok"


def test_the_table_connects_8_of_12_maps_and_the_network_has_9760_parameters_that_start_as_published():
    assert TABLE.shape == (12, 12) and {*TABLE.sum(0).tolist(), *TABLE.sum(1).tolist()} == {8}
    params = network_of_1989().init(seeded(), **FLOAT64)
    assert sum(leaf.numel() for leaf in fn.tree.leaves(params)) == 9760
    kernels, shifts, seen, _, hidden, end = (own for own in params if own)
    for own, fan_in in ((kernels, 25), (seen, 8 * 25), (hidden, 192), (end, 30)):
        bound = 2.4 / math.sqrt(fan_in)
        assert 0.97 * bound < own["w"].abs().max() <= bound
    assert (shifts["b"] == 0).all() and (hidden["b"] == 0).all() and (end["b"] == -1).all()


def test_the_network_of_1989_is_that_of_classic_pytorch_and_its_gradients_are_right():
    layer = network_of_1989()
    params, batch = layer.init(seeded(), **FLOAT64), (normal(2, 1, 16, 16), as_signs(torch.tensor([3, 7])).double())
    module = Classic1989(params)
    assert_close(module(batch[0]).detach(), layer(params, batch[0]), 1e-14)
    objective = fn.supervised(layer, fn.mean_squared_error())
    gradients = fn.explicit(objective)(params, batch)[1]
    torch.nn.functional.mse_loss(module(batch[0]), batch[1]).backward()
    assert_close([leaf.grad for leaf in module.leaves], fn.tree.leaves(gradients), 1e-14)
    report = fn.check(fn.explicit(objective), params, batch)
    assert report, report


def write_mnist(folder, count):
    pixels = torch.randint(256, (count, 28, 28), generator=seeded(), dtype=torch.uint8)
    for name, entries in (("images-idx3", pixels), ("labels-idx1", (torch.arange(count) % 10).byte())):
        header = bytes([0, 0, 8, entries.ndim]) + struct.pack(f">{entries.ndim}I", *entries.shape)
        (folder / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(header + bytes(entries.flatten().tolist())))
    return pixels


def test_digits_of_mnist_are_drawn_once_and_scaled(tmp_path):
    pixels = write_mnist(tmp_path, 60)
    train, test = drawn(Digits(mnist=tmp_path, digits=50), seeded())
    assert (len(train.ink), len(test.ink)) == (39, 11)
    both = torch.cat([train.ink, test.ink]).squeeze(1)
    places = [(both[n] == pixels / 255).flatten(1).all(1).nonzero().item() for n in range(50)]
    assert len({*places}) == 50 and [place % 10 for place in places] == torch.cat([train.labels, test.labels]).tolist()
    assert train.scaled(28) is train.ink and train.scaled(16).shape == (39, 1, 16, 16)
    old, new = (made(train, test, seeded(), FLOAT64) for made in (of_1989, lenet_5))
    assert old.data.train[0].shape == (39, 1, 16, 16) and -1 <= old.data.train[0].min() < -0.5
    assert new.data.test[0].shape == (11, 1, 28, 28) and 0 <= new.data.test[0].min() < 0.1
    assert torch.equal(old.data.train[1].argmax(1), train.labels) and (old.data.train[1].sum(1) == -8).all()


def test_the_default_digits_are_shared_out_as_those_of_the_paper():
    train, test = drawn(Digits(), seeded())
    assert len(train.ink) + len(test.ink) == 1797 and len(test.ink) == round(1797 * TEST / (TRAIN + TEST))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lenet")
    command_line.run_one("lenet", LeNet(output=folder, passes=1, compared=30, steps=2))
    assert len(list((folder / "lenet").glob("*.png"))) == 3
    return json.loads((folder / "lenet" / "result.json").read_text())


def test_explicit_classic_and_the_other_providers_walk_the_same_path(found):
    for differences in found["numbers"]["largest difference per step"].values():
        assert len(differences) == 30 and max(differences) < 1e-13
    for others in found["numbers"]["largest difference of providers"].values():
        assert max(others["func_grad"], others["autograd"]) < 1e-14
    assert 0 < found["numbers"]["largest difference of providers"]["1989"]["central_difference"] < 1e-9


def test_both_networks_learn_to_read(found):
    for curves, diverged in found["numbers"]["runs"].values():
        assert diverged is None and curves["test error"][0] > 0.7 and curves["test error"][1] < 0.15
    assert "--passes 23" in " ".join(found["observations"])


def test_differences_of_every_parameter_are_those_of_the_loop(found):
    moved = found["numbers"]["differences of all parameters"]
    assert moved["parameters"] == 9760 and moved["apart"] < 1e-6
    slopes = loop.loop(lambda w: (w**3).sum(), torch.tensor([1.0, 2.0, 3.0]).double(), range(0, 3, 2))
    assert_close(slopes, torch.tensor([3.0, 27.0]).double(), 1e-6)


@pytest.mark.parametrize("flags", [["--passes", "0"], ["--digits", "0"], ["--mnist", "nowhere"]])
def test_bad_options_get_one_line_and_exit_code_2(capsys, tmp_path, flags):
    assert command_line.main(["lenet", "--output", str(tmp_path), *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flags[0 if flags[1] == "0" else 1].strip("-") in complaint
