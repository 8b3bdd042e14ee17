import json

import pytest
import torch
from helpers import normal, seeded

import funcnn as fn
from experiments import __main__ as command_line
from experiments.autoencoder import Autoencoder, codes
from experiments.core.pixels import digit_pixels

FLOAT64 = {"dtype": torch.float64, "device": "cpu"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoder")
    command_line.run_one("autoencoder", Autoencoder(output=folder, epochs=20, codes=(2,)))
    return json.loads((folder / "autoencoder" / "result.json").read_text())


def test_the_autoencoder_keeps_more_than_pca_and_nesterov_learns_faster(found):
    numbers = found["numbers"]
    (loss, test_loss), ends = numbers["PCA"]["2"], {}
    for name in ("momentum", "Nesterov"):
        curves, diverged = numbers["runs"][name]["2"]
        assert diverged is None and len(curves["loss"]) == 21
        ends[name] = curves["loss"][-1], curves["test loss"][-1]
    assert ends["Nesterov"][0] < ends["momentum"][0] < loss
    assert ends["Nesterov"][1] < 0.9 * test_loss
    assert numbers["named right"]["autoencoder"] > numbers["named right"]["PCA"] > 0.5
    assert "Nesterov is where momentum ends after" in found["observations"][0]


def test_the_recorded_loss_of_pca_is_the_variance_of_the_components_left_out(found):
    x, _ = digit_pixels(generator=seeded(), **FLOAT64).train
    left_out = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))[:-2]
    assert found["numbers"]["PCA"]["2"][0] == pytest.approx(left_out.sum().item() / 64)


def test_no_other_projection_keeps_more_than_pca():
    x = normal(50, 6) @ normal(6, 6, seed=1)
    coder, mean = codes.pca(x, 2), x.mean(0)
    assert coder.encode(x).shape == (50, 2) and codes.pca(x, 6).loss(x) < 1e-25
    for seed in range(5):
        axes = torch.linalg.qr(normal(6, 2, seed=seed)).Q
        assert codes.Coder(lambda x, v=axes: (x - mean) @ v, lambda z, v=axes: z @ v.T + mean).loss(x) > coder.loss(x)


def test_the_halves_of_an_autoencoder_are_the_whole():
    sizes, x = (6, 5, 2), normal(4, 6)
    layer = fn.autoencoder(sizes, fn.tanh)
    params = layer.init(seeded())
    coder = codes.network(fn.mlp(sizes, fn.tanh), fn.mlp(sizes[::-1], fn.tanh), params)
    assert coder.encode(x).shape == (4, 2)
    assert torch.equal(coder.decode(coder.encode(x)), fn.apply(layer, params, x))


def test_the_nearest_class_mean_counts_what_is_nearest():
    means = 10 * torch.arange(10.0)[:, None]
    labels = torch.arange(10)
    tests = torch.cat([means + 4, means + 6])  # within 5 of its own mean, and beyond
    data = fn.data.Dataset((means, labels), (tests, labels.repeat(2)))
    coder = codes.Coder(lambda x: x, lambda z: z)
    assert codes.named_right(coder, data) == 11 / 20  # the last class has no neighbour to be taken for


def test_pixels_are_the_digits_split_once():
    (x, labels), (tests, truth), *_ = digit_pixels(generator=seeded(), **FLOAT64)
    pictures, all_labels = fn.data.digit_images()
    assert x.min() == 0 and x.max() == 1 and len(x) == 1438 and len(tests) == 359

    def in_order(x, labels):
        return sorted((label, *row) for label, row in zip(labels.tolist(), x.tolist(), strict=True))

    both = in_order(torch.cat([x, tests]), torch.cat([labels, truth]))
    assert both == in_order(pictures.flatten(1) / 16, all_labels)


def test_a_diverging_optimizer_is_reported_and_the_rest_is_drawn(tmp_path):
    command_line.run_one("autoencoder", Autoencoder(output=tmp_path, epochs=1, codes=(2,), lr=1e6, hidden=4))
    record = json.loads((tmp_path / "autoencoder" / "result.json").read_text())
    assert record["observations"][0].count("diverged at step") == 2
    assert "autoencoder" not in record["numbers"]["named right"] and "nan" not in json.dumps(record["tables"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--beta", "1"],
        ["--codes", "1"],
        ["--codes", "4", "2"],
        ["--codes", "64"],
        ["--codes"],
        ["--hidden", "0"],
        ["--lr", "0"],
    ],
)
def test_bad_options_get_one_line_and_exit_code_2(capsys, flags):
    assert command_line.main(["autoencoder", *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flags[0].strip("-") in complaint
