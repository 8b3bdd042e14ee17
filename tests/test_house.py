"""The shape of the house: what is public, which way imports run, and where private parts of torch are touched."""

import ast
import importlib
import importlib.metadata
import pkgutil
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import funcnn as fn

ROOT = Path(fn.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "funcnn."))

# Each imports of its own line and of those above. A folder stands for all that is in it.
ORDER = [
    ["errors", "checksums"],
    ["operands"],
    ["memory", "purity", "safetensors"],
    ["refusals"],
    ["causes", "types", "kernels", "report", "display"],
    ["history", "fused"],
    ["tree", "plots", "data"],
    ["batches"],
    ["layers"],
    ["losses"],
    ["objectives"],
    ["sums"],
    ["providers"],
    ["samples"],
    ["distributed"],
    ["optimizers"],
    ["loop"],
    ["storage"],
    ["calls", "finite"],
    ["running"],
    ["epochs"],
    ["checking"],
    ["interop"],
]
# Imported where something is drawn, or by a type checker: what draws has numbers alone and knows none of its callers.
LAZY = {("report", "plots"), ("history", "plots")}


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place(module):
    """The line of the order in which a module stands."""
    name = module.split(".")[1]
    (line,) = [number for number, names in enumerate(ORDER) if name in names]
    return line


def imports(path):
    """What a file imports of funcnn, as modules, and what of others: (ours, others)."""
    ours, others = set(), set()
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                (ours if alias.name.split(".")[0] == "funcnn" else others).add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, [base, node.module]))
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                if not source.startswith("funcnn"):
                    others.add(whole)
                else:
                    ours.add(whole if whole in MODULES else source)
    return ours, others


GRAPH = {module_of(path): imports(path)[0] for path in FILES}


def test_every_module_has_its_place_and_every_place_a_module():
    found = {module.split(".")[1] for module in MODULES}
    assert found == {name for line in ORDER for name in line}


@pytest.mark.parametrize("module", [module for module in GRAPH if module != "funcnn"])
def test_imports_run_one_way(module):
    for imported in GRAPH[module]:
        if (module.split(".")[1], imported.split(".")[1]) not in LAZY:
            assert imported != "funcnn", f"{module} imports the listing"
            assert place(imported) <= place(module), f"{module} imports {imported}, which stands above it"


def test_there_is_no_circle_of_imports():
    done, left = set(), {module: {name for name in of if name != module} for module, of in GRAPH.items()}
    left = {module: {name for name in of if (module[7:], name[7:]) not in LAZY} for module, of in left.items()}
    while left:
        free = [module for module, of in left.items() if of <= done]
        assert free, f"a circle among {sorted(left)}"
        done |= set(free)
        left = {module: of for module, of in left.items() if module not in done}


def test_what_draws_knows_no_type_of_ours():
    assert GRAPH["funcnn.plots"] <= {"funcnn.errors"}


def test_matplotlib_is_imported_by_what_draws_alone_and_not_with_the_library():
    others = {module_of(path): imports(path)[1] for path in FILES}
    users = {module for module, names in others.items() if any(name.startswith("matplotlib") for name in names)}
    assert users == {"funcnn.plots"}
    heavy = {"matplotlib", "rich", "sklearn", "pandas", "torch._inductor.compile_fx", "experiments"}
    code = f"import sys, funcnn; print(*sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_nothing_in_the_library_imports_from_the_experiments_or_the_tests():
    for path in FILES:
        assert not any(re.match("experiments|tests|helpers", name) for name in imports(path)[1]), path


# What is private to torch, beside what its documentation tells extensions of torch to use.
PRIVATE = re.compile(r"torch\.(_\w+|ops|(\w+\.)*_\w+)\b")
ALLOWED = re.compile(r"torch\.utils\._python_dispatch")
TOUCH = {"funcnn.kernels", "funcnn.fused", "funcnn.optimizers.compiling", "funcnn.optimizers.products"}


def dotted(node):
    """The name that an expression such as torch.ops.aten spells, or nothing."""
    if isinstance(node, ast.Attribute):
        return dotted(node.value) and f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def private(path):
    names = imports(path)[1] | {dotted(node) for node in ast.walk(ast.parse(path.read_text()))}
    return {name for name in names if PRIVATE.match(name) and not ALLOWED.match(name)}


@pytest.mark.parametrize("path", FILES, ids=map(module_of, FILES))
def test_private_parts_of_torch_are_touched_in_four_files_alone(path):
    if module_of(path) not in TOUCH:
        assert private(path) == set()


def test_private_parts_are_found_where_they_are():
    assert {
        "torch.ops.aten.sigmoid_backward",
        "torch._foreach_add",
        "torch._C._functorch.get_dynamic_layer_stack_depth",
    } <= (private(ROOT / "kernels.py"))


@pytest.mark.parametrize("module", MODULES)
def test_every_file_is_imported_as_a_module_under_its_own_name(module):
    names = {}
    exec(f"import {module} as x", names)
    assert type(names["x"]) is type(sys) and names["x"] is importlib.import_module(module)
    assert names["x"].__doc__ and names["x"].__name__ == module


def test_no_public_name_shadows_a_file():
    files = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {name for name in fn.__all__ if name in files} == {"data", "distributed", "tree"}  # the modules themselves
    assert type(fn.data) is type(fn.distributed) is type(fn.tree) is type(sys)


def test_what_a_folder_holds_is_listed_in_one_place():
    for path in ROOT.glob("*/__init__.py"):
        if path.parent.name not in ("data", "distributed"):  # which are modules of the listing
            assert not GRAPH[module_of(path)] and not imports(path)[1], path


LISTED = re.findall(r"^from \S+ import (\w+) as \1$", (ROOT / "__init__.py").read_text(), flags=re.MULTILINE)


def test_completion_lists_the_api_and_nothing_else():
    assert sorted(fn.__all__) == sorted(LISTED) and len(set(LISTED)) == len(LISTED)
    assert {name for name in dir(fn) if not name.startswith("__")} == set(LISTED)
    names = {}
    exec("from funcnn import *", names)
    assert names.keys() - {"__builtins__"} == set(LISTED)


def test_help_lists_the_api_and_nothing_else():
    text = pydoc.plain(pydoc.render_doc(fn))
    assert fn.__doc__.splitlines()[0] in text and fn.__version__ in text
    for name in LISTED:
        assert re.search(rf"\b{name}\b", text), name
    for module in ("losses", "kernels", "objectives", "optimizers"):
        assert not re.search(rf"^    {module}(\n| = )", text.partition("FUNCTIONS")[2], flags=re.MULTILINE), module


@pytest.mark.parametrize(
    "name", [name for name in LISTED if name not in ("data", "distributed", "tree", "PROVIDERS", "WITNESSES", "HYPOTHESES")]
)
def test_every_public_name_says_what_it_is(name):
    thing = getattr(fn, name)
    assert thing.__doc__ and not thing.__doc__.startswith(f"{name}("), name
    assert thing.__module__.startswith("funcnn.")


def test_types_and_version_are_for_others_to_see():
    assert (ROOT / "py.typed").exists()
    assert re.fullmatch(r"\d+\.\d+\.\d+", fn.__version__)
    assert importlib.metadata.version("funcnn") == fn.__version__
