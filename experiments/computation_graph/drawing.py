"""Drawing a computation graph: values from left to right, and beneath them, from right to left, what differentiates them."""

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor

from experiments.computation_graph.graph import Graph, ancestors, local_derivative
from funcnn.plots import COLORS, figure

Places = dict[str, tuple[float, float]]

DOWN = 0.9  # from a row to the next, where columns are 1 apart


def in_short(x: Tensor) -> str:
    """One or two numbers as they are; of more only the shape."""
    numbers = [f"{number:.3g}" for number in x.flatten().tolist()]
    if len(numbers) == 1:
        return numbers[0]
    return f"({', '.join(numbers)})" if len(numbers) == 2 else " x ".join(map(str, x.shape))


def positions(graph: Graph, value: str) -> Places:
    """A place for each node: above, what leads to the value, and below the rest, each as near as can be to where it leads.

    What takes values from above is on top in the lower part, and what gives them is the lowest of the inputs.
    """
    forward = ancestors(graph, value) | {value}
    children = {name: {child for child, node in graph.items() if name in node.parents} for name in graph}
    columns: dict[str, int] = {}
    for name in reversed(graph):
        if name in forward:
            columns[name] = min((columns[child] for child in children[name] & forward), default=1) - 1
        else:
            columns[name] = max((columns[child] for child in children[name]), default=-1) + 1
    first = min(columns.values())
    columns |= {name: columns[name] - first for name in forward}
    inputs = sorted((name for name in graph if not graph[name].parents), key=lambda name: children[name] <= forward)
    lower = sorted((name for name in graph if name not in forward), key=lambda name: len(forward & set(graph[name].parents)))
    upper = _stack(columns, [name for name in graph if name in forward and name not in inputs], inputs)
    below = _stack(columns, lower, [])
    drop = 1.4 * DOWN + max((y for _, y in below.values()), default=0) - min(y for _, y in upper.values())
    return upper | {name: (x, y - drop) for name, (x, y) in below.items()}


def _stack(columns: dict[str, int], middle: list[str], above: list[str]) -> Places:
    """The nodes of each column from bottom to top: `middle` around the height 0, and `above` over them."""
    places: Places = {}
    for column in set(columns.values()):
        inner = [name for name in middle if columns[name] == column]
        bottom = -max(len(inner) - 1, 0) / 2
        stack = [*inner, *(name for name in above if columns[name] == column)]
        places |= {name: (column, DOWN * (bottom + index)) for index, name in enumerate(stack)}
    return places


def draw(graph: Graph, value: str, sources: Collection[str], edge: Callable[..., str], products: Collection[str]) -> Any:
    """The figure of a graph whose scalar `value` is differentiated with respect to `sources`, with the `products` beneath.

    `edge(parent, child, derivative)` words the local derivative on every edge of a path from a source to the value.
    """
    places, forward = positions(graph, value), ancestors(graph, value) | {value}
    x, y = zip(*places.values(), strict=True)
    left, right, bottom, top = min(x) - 0.5, max(x) + 0.5, min(y) - 0.5 - 0.35 * len(products), max(y) + 0.5
    drawing, (axis,) = figure(1, width=max(8, 1.35 * (right - left)), height=top - bottom)
    axis.set(xlim=(left, right), ylim=(bottom, top))
    axis.axis("off")
    boxes = {}
    for name, node in graph.items():
        color = COLORS[0] if not node.parents else "black" if name in forward else COLORS[1]
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": color, "linewidth": 1.4}
        text = f"{node.label.replace('_backward', chr(39))}\n{in_short(node.value)}"
        boxes[name] = axis.text(*places[name], text, ha="center", va="center", bbox=box, zorder=3, linespacing=1.4)
    for index, product in enumerate(products, start=1):
        axis.text((left + right) / 2, min(y) - 0.4 - 0.35 * index, product, ha="center", color=COLORS[1])
    drawing.draw_without_rendering()  # now the boxes have their sizes, where arrows begin and end
    for child, node in graph.items():
        for parent in node.parents:
            kept = parent in forward and child not in forward
            bend = "arc3,rad=0.5" if _blocked(places, parent, child) else "arc3"
            arrow = {"arrowstyle": "-|>", "color": "#999999" if kept else "#444444", "linestyle": ":" if kept else "-"}
            arrow |= {"patchA": boxes[parent].get_bbox_patch(), "patchB": boxes[child].get_bbox_patch(), "shrinkA": 0}
            arrow |= {"shrinkB": 0, "connectionstyle": bend}
            axis.annotate("", places[child], places[parent], arrowprops=arrow, zorder=1)
            if child in forward and (parent in sources or ancestors(graph, parent) & set(sources)):
                told = edge(parent, child, in_short(local_derivative(graph, parent, child)))
                late = 1 - 0.5 / (places[child][0] - places[parent][0])  # half a column before the child
                middle = [a + late * (b - a) for a, b in zip(places[parent], places[child], strict=True)]
                white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                axis.text(*middle, told, ha="center", va="center", color=COLORS[1], fontsize="small", bbox=white, zorder=2)
    return drawing


def _blocked(places: Places, start: str, end: str) -> bool:
    """Whether another node stands in a column between the two ends of a vertical edge."""
    (x, y), (x_end, y_end) = places[start], places[end]
    return x == x_end and any(x == a and min(y, y_end) < b < max(y, y_end) for a, b in places.values())
