import json
from math import sqrt

import pytest
import torch
from helpers import labels, normal, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pdist

import funcnn as fn
from experiments import __main__ as command_line
from experiments.geometry import Geometry, maps, run
from experiments.geometry.uncrumpling import look

SMALL = {"epochs": 300, "samples": 150, "turns": 1.0, "batch_size": 120, "hidden_layers": 2}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("geometry")
    command_line.run_one("geometry", Geometry(output=folder, **SMALL))
    return json.loads((folder / "geometry" / "result.json").read_text())


# name: (angle, where the corners (1, 0) and (0, 1) go)
IMAGES = {
    "translation": (90, [[2, 0.5], [1, 1.5]]),
    "scaling": (90, [[1.5, 0], [0, 0.75]]),
    "rotation": (90, [[0, 1], [-1, 0]]),
    "skew": (90, [[1, 0], [0.6, 1]]),
    "affine": (90, [[1, 2], [0.25, 1.4]]),  # skewed, scaled, turned by a right angle, shifted
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_map_moves_corners_where_it_should(name):
    angle, images = IMAGES[name]
    corners = torch.eye(2)
    assert torch.allclose(maps.maps(angle, corners)[name].apply(corners), torch.tensor(images, dtype=torch.float64))


def test_every_map_is_a_dense_layer_and_changes_areas_by_its_determinant(found):
    facts = found["numbers"]["maps"]
    assert facts.keys() == IMAGES.keys()
    for fact in facts.values():
        assert fact["dense"] < 1e-14 and fact["area against |det A|"] < 1e-14
    areas = {name: fact["area"] for name, fact in facts.items()}
    assert areas == pytest.approx({"translation": 1, "scaling": 1.125, "rotation": 1, "skew": 1, "affine": 1.125})
    assert {name for name, fact in facts.items() if fact["distances"] < 1e-12} == {"translation", "rotation"}
    assert found["numbers"]["in turn"] < 1e-14


def test_a_map_that_is_not_what_it_claims_to_be_is_found_out():
    shape = torch.tensor(maps.SHAPE, dtype=torch.float64)
    right = maps.maps(30, shape)["skew"]
    wrong = maps.facts(right._replace(apply=lambda x: 2 * right.apply(x)), shape)
    assert wrong["dense"] > 1 and wrong["area against |det A|"] == pytest.approx(3)


def test_the_area_of_the_shape_is_counted_in_squares():
    squares = 0.4 * 2 + 0.6 * 0.4 + 0.8 * 0.4
    assert maps._area(torch.tensor(maps.SHAPE, dtype=torch.float64)).item() == pytest.approx(squares)


def test_the_spirals_become_separable_and_no_dense_layer_does_it(found):
    separable = found["numbers"]["linear separability"]
    assert list(separable) == ["input", "dense 1", "tanh 1", "dense 2", "tanh 2", "dense 3"]
    assert separable["input"] < 0.75 and separable["dense 3"] == 1
    assert separable["dense 1"] == separable["input"] and separable["dense 2"] == separable["tanh 1"]
    assert found["numbers"]["training"]["loss"][-1] < 0.1
    assert "100.0% of the network's outputs" in found["observations"][2]


BLOBS = normal(60, 3) + 8 * (labels(60, 2, seed=1) - 0.5)[:, None]
RING = torch.nn.functional.normalize(normal(200, 2)) * torch.where(labels(200, 2) == 1, 2.0, 0.5)[:, None]

# name: (points, labels, the share that a hyperplane separates)
CLOUDS = {
    "two blobs": (BLOBS, labels(60, 2, seed=1), 1),
    "exclusive or": (torch.tensor([[1.0, 1], [-1, -1], [1, -1], [-1, 1]]), torch.tensor([1, 1, 0, 0]), 0.5),
    "a ring lifted by its radius": (torch.cat([RING, RING.norm(dim=1, keepdim=True)], 1), labels(200, 2), 1),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_the_separable_share_is_known_for_simple_clouds(name):
    points, classes, share = CLOUDS[name]
    assert look(points, classes).separability == share


def test_where_no_direction_is_better_than_another_there_is_still_a_picture():
    stage = look(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), torch.tensor([1, 1, 0, 0]))
    assert stage.plane.isfinite().all() and stage.separability == 0.5


def test_a_ring_around_a_disc_is_not_separable():
    assert look(RING, labels(200, 2)).separability < 0.7


@given(seed=st.integers(0, 10**6), wider=st.integers(0, 5))
def test_an_affine_map_of_full_rank_leaves_the_share_as_it_is(seed, wider):
    points, classes = normal(50, 3, seed=seed), labels(50, 2, seed=seed + 1)
    layer = fn.dense(3, 3 + wider)
    moved = fn.apply(layer, layer.init(seeded(seed)), points)
    assert look(moved, classes).separability == look(points, classes).separability


def test_the_picture_shows_distances_to_the_best_hyperplane():
    points, classes = BLOBS, labels(60, 2, seed=1)
    stage = look(points, classes)
    assert torch.equal(stage.plane[:, 0] > 0, classes.bool())
    flat = points[:, :2]
    plane = look(flat, classes).plane  # of two dimensions nothing is left out: distances stay
    assert torch.allclose(pdist(plane), pdist(flat))
    diagonal = look(torch.tensor([[0.0, 3], [3, 0], [-1, 4], [4, -1]]), torch.tensor([1, 0, 1, 0])).plane[:, 0]
    assert torch.allclose(diagonal, torch.tensor([3, -3, 5, -5]) / sqrt(2))


def test_a_training_that_diverges_is_reported_as_diverged():
    *_, last = run(Geometry(lr=1e300, epochs=2, samples=20)).observations
    assert "diverged at step 1" in last


@pytest.mark.parametrize(
    ("flag", "bad"),
    [("--units", "1"), ("--hidden-layers", "10"), ("--hidden-layers", "0"), ("--samples", "9"), ("--turns", "-1")],
)
def test_bad_options_get_one_line_and_exit_code_2(capsys, flag, bad):
    assert command_line.main(["geometry", flag, bad]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flag.strip("-").replace("-", "_") in complaint
