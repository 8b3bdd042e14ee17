import html
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from experiments.__main__ import EXPERIMENTS, TOPICS
from experiments.core.formulas import mathml, plain, typeset
from experiments.core.options import Options
from experiments.core.report import duration, write_report
from experiments.core.result import Result, Table, save
from funcnn.plots import figure

WIDTHS = (1300, 800, 400)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"

# A page that shows the report in frames of these widths and writes down what it measures there.
MEASURED = """<!doctype html><body><script>
const report = %s, found = {};
const measure = (width, frame) => {
  const page = frame.contentDocument, all = [...page.body.querySelectorAll("*")];
  const outside = (e) => e.getBoundingClientRect().right > width + 0.5 || e.getBoundingClientRect().left < -0.5;
  const free = all.filter((e) => !e.parentElement.closest(".scroll"));  // what is in a box of its own scrolls there
  const beyond = free.filter(outside).map((e) => e.tagName + ": " + e.textContent.slice(0, 40));
  const [image] = page.images, closed = image.getBoundingClientRect().width;
  image.closest("details").open = true;
  found[width] = {
    scroll: page.documentElement.scrollWidth,
    outside: beyond,
    without: [...page.images].filter((e) => !e.alt.trim()).length,
    images: page.images.length,
    formulas: [...page.querySelectorAll("math")].map((e) => e.getBoundingClientRect().height),
    closed: closed,
    opened: image.getBoundingClientRect().width,
  };
  image.closest("details").open = false;
};
const show = (width) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.onload = () => done(measure(width, frame));
  frame.srcdoc = report;
  document.body.append(frame);
});
Promise.all(%s.map(show)).then(() => {
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(found);
});
</script>"""


def result(name):
    """One with all that could be too wide: words, formulas, columns and figures."""
    drawing, _ = figure(1, width=14.0, height=1.0)
    words = "a_name_that_is_as_long_as_the_longest_line_of_any_of_the_reports_and_has_no_space_to_break_it_at " * 2
    wide = Table("Table of $x^2$", [f"column {i}" for i in range(30)], [["1.2345e-6"] * 29 + ["long words " * 20]] * 3)
    line = "The quotient $(f(x + h) - f(x - h)) / (2 h)$, and " + " + ".join(f"$x_{i}/y^{i}$" for i in range(40))
    return Result(f"The title of {name}", line, {}, [words, line], {"f": (drawing, f"Caption of $e^x$, {words}")}, [wide])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    for name in EXPERIMENTS:
        save(name, result(name), Options(output=output))
    return write_report(output, TOPICS)


@pytest.fixture(scope="module")
def measured(report, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("chromium")
    text = json.dumps(report.read_text()).replace("</", "<\\/")
    (folder / "page.html").write_text(MEASURED % (text, list(WIDTHS)))
    shown = [f"--user-data-dir={folder}", "--virtual-time-budget=60000", "--dump-dom", (folder / "page.html").as_uri()]
    done = subprocess.run([CHROMIUM, *FLAGS.split(), *shown], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(html.unescape(re.search(r"<pre>(.*)</pre>", done.stdout, re.DOTALL)[1]))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_runs_off_the_page(measured, width):
    found = measured[str(width)]
    assert found["scroll"] <= width and found["outside"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_has_an_alternative_text_and_every_formula_is_drawn(measured, width):
    found = measured[str(width)]
    assert found["images"] == len(EXPERIMENTS) and found["without"] == 0
    assert len(found["formulas"]) > 80 * len(EXPERIMENTS) and min(found["formulas"]) > 5


@pytest.mark.parametrize("width", WIDTHS)
def test_a_figure_opens_in_all_of_its_pixels(measured, width):
    assert measured[str(width)]["closed"] < width < measured[str(width)]["opened"] == 14 * 150


def test_the_page_needs_no_network_and_no_script(report):
    text = report.read_text()
    assert "<script" not in text and "@import" not in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources and all(source.startswith(("#", "data:image/png;base64,")) for source in sources)


def test_the_navigation_leads_to_every_section_by_topic(report):
    navigation = re.search(r"<nav.*?</nav>", report.read_text(), re.DOTALL)[0]
    assert re.findall(r"<summary>(.*?)</summary>", navigation) == list(TOPICS)
    assert re.findall(r'href="#(\w+)"', navigation) == list(EXPERIMENTS)
    assert [name for name in EXPERIMENTS if f'<section id="{name}">' not in report.read_text()] == []


FORMULAS = {
    "x^3 - y^2": "<msup><mi>x</mi><mrow><mn>3</mn></mrow></msup><mo>−</mo><msup><mi>y</mi><mrow><mn>2</mn></mrow></msup>",
    "a/b": "<mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac>",
    "2/(L + m)": "<mfrac><mrow><mn>2</mn></mrow><mrow><mi>L</mi><mo>+</mo><mi>m</mi></mrow></mfrac>",
    "1/2 x": "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac><mi>x</mi>",
    "a b / c d + e": "<mfrac><mrow><mi>a</mi><mi>b</mi></mrow><mrow><mi>c</mi><mi>d</mi></mrow></mfrac><mo>+</mo><mi>e</mi>",
    "w_i^2": "<msubsup><mi>w</mi><mrow><mi>i</mi></mrow><mrow><mn>2</mn></mrow></msubsup>",
    "X[n,d] [m = k]": "<msub><mi>X</mi><mrow><mi>n</mi><mo>,</mo><mi>d</mi></mrow></msub>"
    "<mrow><mo>[</mo><mi>m</mi><mo>=</mo><mi>k</mi><mo>]</mo></mrow>",
    "dL": "<mrow><mi>d</mi><mi>L</mi></mrow>",
    "f'(x)": "<msup><mi>f</mi><mrow><mo>′</mo></mrow></msup><mrow><mo>(</mo><mi>x</mi><mo>)</mo></mrow>",
    "sqrt x": "<msqrt><mi>x</mi></msqrt>",
    "sum_i rho": "<msub><mo>∑</mo><mrow><mi>i</mi></mrow></msub><mi>ρ</mi>",
    "sin x": '<mi>sin</mi><mspace width="0.25em"></mspace><mi>x</mi>',
    "e^-3 <= 1e-9": "<msup><mi>e</mi><mrow><mo>−</mo><mn>3</mn></mrow></msup><mo>≤</mo><msup><mn>10</mn><mn>−9</mn></msup>",
    "|x|": "<mrow><mo>|</mo><mi>x</mi><mo>|</mo></mrow>",
    "a < b": "<mi>a</mi><mo>&lt;</mo><mi>b</mi>",
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_is_typeset(formula):
    assert mathml(formula) == f"<math>{FORMULAS[formula]}</math>"


@pytest.mark.parametrize("formula", ["(", ")", "a_", "^", "x /", "/", "|", "a (b", "a_(", "]", "<&>", "é ∂ x", "' '"])
def test_what_is_no_formula_is_typeset_as_far_as_it_goes(formula):
    assert ElementTree.fromstring(mathml(formula)).tag == "math"


def test_a_text_is_read_with_its_formulas_and_never_as_html():
    text = "<b> of $x < y$ costs 3 $"
    assert plain(text) == "<b> of x < y costs 3 $"
    assert typeset(text) == "&lt;b&gt; of <math><mi>x</mi><mo>&lt;</mo><mi>y</mi></math> costs 3 $"
    assert typeset(1.5) == "1.5"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s")]
)
def test_a_time_is_told(seconds, told):
    assert duration(seconds) == told
