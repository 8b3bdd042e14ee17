import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
import torch
from helpers import normal
from matplotlib import pyplot
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

import funcnn as fn
from funcnn.plots import figure, heat_map, images

NAN, INF = torch.nan, torch.inf


def colors(matrix, **options):
    drawing, (axis,) = figure()
    heat_map(axis, matrix, label="error", **options)
    drawing.draw_without_rendering()
    (cells,) = axis.collections
    return cells.get_facecolors().reshape(*matrix.shape, 4), axis


def test_a_heat_map_shows_each_entry_in_its_place_and_row_0_on_top():
    matrix = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    cells, axis = colors(matrix, rows=["a", "b"], columns=["x", "y", "z"])
    assert len({tuple(color) for row in cells for color in row}) == 6
    assert cells[1, 2, :3] == pytest.approx([0.993248, 0.906157, 0.143936], abs=1e-5)  # the last colour of viridis
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["x", "y", "z"]
    assert axis.yaxis_inverted() and axis.figure.axes[1].get_ylabel() == "error"


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_zero_is_grey_and_what_is_no_number_black(scale):
    cells, _ = colors(torch.tensor([[0.0, NAN, INF], [1e-9, 1e-3, 1.0]]), scale=scale)
    grey, black = [208 / 255] * 3 + [1], [0, 0, 0, 1]
    assert cells[0, 0] == pytest.approx(grey)
    assert (cells[0, 1:] == black).all()
    assert not any((color == black).all() or color == pytest.approx(grey) for color in cells[1])


def test_entries_of_both_signs_are_told_apart_around_white():
    cells, _ = colors(torch.tensor([[-2.0, -1e-9, 1e-9, 2.0]]))
    blue, *near, orange = cells[0]
    assert blue[2] > blue[0] and orange[0] > orange[2]
    assert all(color == pytest.approx([1, 1, 1, 1], abs=0.02) for color in near)


def test_a_logarithmic_scale_ends_at_whole_decades():
    _, axis = colors(torch.tensor([[3e-16, 4e-13]]), scale="log")
    assert axis.figure.axes[1].get_ylim() == pytest.approx((1e-16, 1e-12))
    with pytest.raises(fn.InputError, match="negative entries"):
        colors(torch.tensor([[-1.0, 1.0]]), scale="log")


@pytest.mark.parametrize("matrix", [torch.zeros(2, 2), torch.ones(1, 3), torch.full((1, 1), NAN)])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_matrix_without_contrast_can_be_drawn(matrix, scale, tmp_path):
    _, axis = colors(matrix, scale=scale)
    axis.figure.savefig(tmp_path / "x.png")


def test_images_stand_in_rows_and_columns_under_their_heads():
    pictures = normal(2, 3, 4, 5).sigmoid()
    drawing, (axis,) = figure()
    images(axis, pictures, rows=["a", "b"], columns=["x", "y", "z"])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert len(axis.images) == 6
    for index, image in enumerate(axis.images):
        left, right, bottom, top = image.get_extent()
        assert (round((left + right) / 2), round((top + bottom) / 2)) == (index % 3, index // 3)
        assert torch.equal(torch.tensor(image.get_array().filled()), pictures[index // 3, index % 3])


def test_a_drawing_is_a_picture_in_a_notebook():
    drawing, _ = figure()
    assert drawing._repr_png_().startswith(b"\x89PNG")


class Window(FigureManagerBase):
    """A window that only notes what happens to it."""

    events: ClassVar = []

    def show(self):
        self.events.append(self.canvas.figure)

    @classmethod
    def start_main_loop(cls):
        cls.events.append("waited")


class Canvas(FigureCanvasAgg):
    manager_class = Window


@pytest.fixture
def backend(monkeypatch):
    """Makes this pyplot's backend, by name or as a module."""
    windows = ModuleType("windows")
    windows.FigureCanvas = Canvas
    monkeypatch.setitem(sys.modules, "windows", windows)
    monkeypatch.setattr(Window, "events", [])
    yield pyplot.switch_backend
    pyplot.close("all")
    pyplot.switch_backend("agg")


def test_a_drawing_is_shown_in_a_window_that_is_waited_for(backend):
    backend("module://windows")
    drawing, _ = figure()
    drawing.show()
    assert Window.events == [drawing, "waited"]


@pytest.mark.parametrize("name", ["agg", "pdf", "svg"])
def test_where_there_are_no_windows_a_drawing_says_what_to_do(name, backend):
    backend(name)
    drawing, _ = figure()
    with pytest.raises(RuntimeError, match=rf"backend {name} opens no window; save the figure by savefig\('figure.png'\)"):
        drawing.show()
    assert not pyplot.get_fignums() and drawing._repr_png_()


def test_in_a_notebook_show_is_what_a_cell_shows(monkeypatch):
    shown, notebook = [], ModuleType("IPython")
    notebook.get_ipython = lambda: SimpleNamespace(kernel=None)
    notebook.display = SimpleNamespace(display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    drawing, _ = figure()
    drawing.show()
    assert shown == [drawing]
