import json
from itertools import combinations

import pytest
import torch
from helpers import assert_close, labels, normal, seeded

import funcnn as fn
from experiments import __main__ as command_line
from experiments.computation_graph import ComputationGraph, product
from experiments.computation_graph.drawing import draw, in_short, positions
from experiments.computation_graph.graph import ancestors, build, factors, gradient, local_derivative, paths
from experiments.computation_graph.tracing import trace_gradient


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("computation_graph")
    command_line.run_one("computation_graph", ComputationGraph(output=folder))
    return json.loads((folder / "computation_graph" / "result.json").read_text())


def test_the_values_and_the_products_are_those_of_the_lecture(found):
    assert found["numbers"]["values"] == {"x": 2, "w": 2, "b": 1, "x1": 4, "x2": 5, "loss": 1}
    assert found["numbers"]["factors"] == {"w": [[1, 1, 2]], "b": [[1, 1]]}
    assert "dloss/dw = 1 * 1 * 2 = 2 and dloss/db = 1 * 1 = 1" in found["observations"][0]


def test_every_provider_agrees_with_the_products_or_says_why_not(found):
    by_hand, perceptron = found["numbers"]["largest difference"].values()
    assert by_hand.keys() == perceptron.keys() == fn.PROVIDERS.keys()
    assert by_hand.pop("complex_step") == "refuses abs of complex numbers"
    assert "complex_step refuses abs" in found["observations"][1]
    for name, error in [*by_hand.items(), *perceptron.items()]:
        assert error < (1e-7 if name.endswith("difference") else 1e-15), name


def test_the_gradient_of_a_graph_sums_over_its_paths():
    x = torch.tensor(0.7)
    graph = build(
        {"x": x},
        {
            "square": ("x^2", lambda x: x * x, ("x",)),
            "sine": ("sin x", torch.sin, ("x",)),
            "product": ("x^2 sin x", torch.mul, ("square", "sine")),
            "sum": ("x^2 sin x + x", torch.add, ("product", "x")),
        },
    )
    assert sorted(paths(graph, "x", "sum")) == [
        ("x", "product", "sum")[:1] + ("sine", "product", "sum"),
        ("x", "square", "product", "sum"),
        ("x", "sum"),
    ]
    assert local_derivative(graph, "x", "square").item() == pytest.approx(1.4)
    assert [f.item() for f in factors(graph, ("x", "square", "product", "sum"))] == pytest.approx([1, x.sin().item(), 1.4])
    expected = 2 * x * x.sin() + x * x * x.cos() + 1
    assert torch.allclose(gradient(graph, "x", "sum"), expected)
    assert product(graph, "x", "sum").count("+") == 2


def test_where_no_path_leads_the_gradient_is_0():
    graph = build({"x": normal(3), "y": normal(2)}, {"sum": ("sum", torch.sum, ("x",))})
    assert list(paths(graph, "y", "sum")) == []
    assert torch.equal(gradient(graph, "y", "sum"), torch.zeros(2))


def test_jacobians_multiply_along_a_path():
    x, a = normal(3), normal(2, 3, seed=1)
    graph = build(
        {"x": x, "a": a},
        {
            "ax": ("a x", lambda a, x: a @ x, ("a", "x")),
            "square": ("square", lambda y: y * y, ("ax",)),
            "sum": ("sum", torch.sum, ("square",)),
        },
    )
    assert torch.allclose(local_derivative(graph, "x", "ax"), a)
    assert local_derivative(graph, "a", "ax").shape == (2, 6)
    assert torch.allclose(gradient(graph, "x", "sum"), 2 * a.T @ (a @ x))
    assert torch.allclose(gradient(graph, "a", "sum"), 2 * torch.outer(a @ x, x))


def bent(params, batch):
    return (params["w"].abs() * params["w"] + torch.where(params["w"] > 0, params["w"] ** 2, 0)).sum() * batch.mean()


# name: (objective, parameters, batch)
def traced_objective(name):
    if name == "function":
        return fn.Objective(bent), {"w": normal(3)}, normal(4, seed=1)
    layer, loss, targets = {
        "perceptron": (fn.perceptron(2), fn.half_squared_error(), torch.ones(3, 1)),
        "perceptron, cross entropy": (fn.perceptron(2), fn.binary_cross_entropy(), torch.full((3, 1), 0.25)),
        "hidden layer": (fn.mlp([2, 3, 2], fn.tanh), fn.softmax_cross_entropy(), labels(3, 2)),
        "ReLU, softmax": (fn.serial(fn.mlp([2, 3, 2], fn.relu), fn.softmax()), fn.mean_squared_error(2.0), normal(3, 2)),
    }[name]
    return fn.supervised(layer, loss), layer.init(seeded()), (normal(3, 2, seed=3), targets)


OBJECTIVES = ["function", "perceptron", "perceptron, cross entropy", "hidden layer", "ReLU, softmax"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_traced_graph_holds_the_gradient_twice_along_its_paths_and_in_its_nodes(name):
    objective, params, batch = traced_objective(name)
    names = [*fn.tree.paths(params), *fn.tree.paths(batch, "batch")]
    graph, (loss, *nodes) = trace_gradient(objective, params, batch, names)
    value, grads = fn.func_grad(objective)(params, batch)
    assert torch.equal(graph[loss].value, value)
    for path, node, grad in zip(fn.tree.paths(params), nodes, fn.tree.leaves(grads), strict=True):
        assert graph[node].label.startswith(f"dloss/d{path}: ")
        assert_close(graph[node].value, grad, 1e-14)
        assert_close(gradient(graph, path, loss), grad, 1e-14)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_values_are_drawn_from_left_to_right_and_their_gradients_back_beneath_them(name):
    objective, params, batch = traced_objective(name)
    names = [*fn.tree.paths(params), *fn.tree.paths(batch, "batch")]
    graph, (loss, *nodes) = trace_gradient(objective, params, batch, names)
    places, forward = positions(graph, loss), ancestors(graph, loss) | {loss}
    assert len(set(places.values())) == len(graph)
    for child, node in graph.items():
        for parent in node.parents:
            (x, y), (x_parent, y_parent) = places[child], places[parent]
            if child in forward:
                assert x > x_parent
            elif parent in forward:
                assert y < y_parent
            else:
                assert x < x_parent
    assert places[loss][0] == max(places[name][0] for name in forward)
    assert min(places[node][0] for node in nodes) == min(places[name][0] for name in forward) == 0


@pytest.mark.parametrize("loss", [fn.half_squared_error, fn.binary_cross_entropy])
def test_no_two_boxes_overlap_and_all_text_is_in_the_picture(loss):
    params = ({"w": torch.tensor([[1.0], [-0.5]]), "b": torch.tensor([0.5])}, ())
    batch = torch.tensor([[1.0, 2.0]]), torch.ones(1, 1)
    graph, (value, *_) = trace_gradient(fn.supervised(fn.perceptron(2), loss()), params, batch, ["b", "w", "x", "y"])
    drawing = draw(graph, value, ["b", "w"], lambda *edge: edge[-1], ["dloss/dw = ..."])
    drawing.draw_without_rendering()
    (axis,) = drawing.axes
    texts = [text for text in axis.texts if text.get_text()]
    boxes = [text.get_bbox_patch().get_window_extent() for text in texts if text.get_zorder() == 3 and text.get_bbox_patch()]
    assert len(boxes) == len(graph)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    whole = drawing.bbox
    assert all(
        whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1
        for box in (text.get_window_extent() for text in texts)
    )


@pytest.mark.parametrize(
    ("numbers", "told"), [([0.5], "0.5"), ([1, 2], "(1, 2)"), ([[1], [-0.123456]], "(1, -0.123)"), ([[1, 2, 3]], "1 x 3")]
)
def test_a_value_is_told_in_short(numbers, told):
    assert in_short(torch.tensor(numbers, dtype=torch.float64)) == told


def test_an_unknown_loss_gets_one_line_and_exit_code_2(capsys):
    assert command_line.main(["computation_graph", "--loss", "nope"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and "--loss" in complaint
