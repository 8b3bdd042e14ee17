import json

import pytest

from experiments import __main__ as command_line


def found(folder, name, *flags):
    assert command_line.main([name, "--output", str(folder), *flags]) == 0
    return json.loads((folder / name / "result.json").read_text())


def test_digits_are_learned_from_every_estimate_and_backprop_is_the_shortest_way(tmp_path):
    flags = ["--hidden", "4", "--samples", "8", "--target", "0.3", "--steps", "400"]
    result = found(tmp_path, "estimators", *flags)
    paths, each = result["numbers"]["paths"], result["numbers"]["evaluations per step"]
    assert paths.keys() == each.keys() == result["numbers"]["seconds"].keys()
    assert all(path["accuracies"][-1] >= 0.3 for path in paths.values())
    evaluations = {name: path["steps"][-1] * each[name] for name, path in paths.items()}
    assert min(evaluations, key=evaluations.get) == "backprop"
    assert result["observations"][0].startswith("30% is reached by 8 of 8: backprop, ")


def test_what_is_not_reached_is_said(tmp_path):
    result = found(tmp_path, "estimators", "--hidden", "2", "--samples", "1", "--steps", "3", "--target", "0.99")
    assert [path["steps"] for path in result["numbers"]["paths"].values()] == [[0, 3]] * 8
    (told,) = result["observations"]
    assert told.startswith("Not there after 3 steps: ")


def test_variance_and_bias_follow_their_laws(tmp_path):
    result = found(
        tmp_path, "variance", "--dimensions", "4", "32", "--dimension", "8", "--half-steps", "0.1", "--draws", "40"
    )
    points = [point for found in result["numbers"].values() for of in found.values() for point in of.values()]
    assert len(points) == 2 * 3 + 4 * 3 + 2
    for point in points:
        assert point["mean"] == pytest.approx(point["law"], abs=5 * point["deviation"] + 1e-12)
