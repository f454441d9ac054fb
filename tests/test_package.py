"""The shape of the package: two layers, imports that go one way, functions that fit on a screen."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "fmgan_tf"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


KNOWN = {name_of(path) for path in MODULES}
LIGHT = ("recipes", "datasets", "fetch", "generation", "runs.sources", "runs.terminal", "runs.folder")
each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def imported(path, everywhere=True):
    """The modules of the package that a file imports, at its top level or everywhere."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fmgan_tf":
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in KNOWN else node.module for name in inner)
        assert not (isinstance(node, ast.Import) and any(x.name.startswith("fmgan_tf") for x in node.names))


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("[!_]*.py")), ids=name_of)
def test_the_course_imports_nothing_of_the_command_line(path):
    assert not [module for module in imported(path) if module.startswith("fmgan_tf.runs")]


def test_imports_have_no_circles():
    graph = {name_of(path): set(imported(path, everywhere=False)) - {"fmgan_tf"} for path in MODULES}
    done = set()
    while free := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= free
    assert done == set(graph), set(graph) - done


@each_module
def test_functions_fit_on_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and (path.name, node.name) != ("__main__.py", "parser"):
            assert node.end_lineno - node.lineno < 60, node.name


def test_the_package_stays_small():
    lines = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert sum(lines.values()) <= 6500
    assert sum(count for path, count in lines.items() if path.parent.name == "runs") <= 2100


def python(code):
    """Runs code in a process of its own, since this one has TensorFlow already."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("module", LIGHT)
def test_what_the_command_line_asks_first_needs_no_tensorflow(module):
    heavy = {"tensorflow", "keras", "matplotlib", "tensorflow_datasets"}
    python(f"import sys, fmgan_tf.{module}; found = {heavy} & set(sys.modules); assert not found, found")


def test_every_module_imports_on_a_system_without_fcntl_and_some_signals():
    """As on native Windows."""
    python(f"""
import importlib, signal, sys
sys.modules["fcntl"] = None
for name in ("SIGHUP", "SIGUSR1"):
    delattr(signal, name)
for name in {sorted(KNOWN)}:
    importlib.import_module(name)
""")
