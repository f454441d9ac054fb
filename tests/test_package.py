"""The shape of the package: three storeys, imports that go down only, functions that fit on a screen, clean
code."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "fmgan_tf"
STOREYS = ("fmgan_tf", "fmgan_tf.runs", "fmgan_tf.bench")  # each may import from those before it
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def storey(module):
    return max(number for number, name in enumerate(STOREYS) if f"{module}.".startswith(f"{name}."))


KNOWN = {name_of(path) for path in MODULES}


def imported(path, everywhere=True):
    """The modules of the package that a file imports; with everywhere=False only those at its top level."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fmgan_tf":
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in KNOWN else node.module for name in inner)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path):
    """The command line alone may reach everything, and only while it runs a command."""
    me = name_of(path)
    reached = set(imported(path, everywhere=me != "fmgan_tf.__main__"))
    for module in reached:
        allowed = 1 if me == "fmgan_tf.__main__" else storey(me)
        assert storey(module) <= allowed, f"{me} imports {module}"


def test_imports_have_no_circles():
    graph = {name_of(path): set(imported(path)) - {"fmgan_tf"} for path in MODULES}
    done = set()
    while free := {name for name, needs in graph.items() if name not in done and needs <= done | {name}}:
        done |= free
    assert done == set(graph), set(graph) - done


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_fit_on_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and (path.name, node.name) != ("__main__.py", "parser"):
            assert node.end_lineno - node.lineno < 80, node.name


@pytest.mark.parametrize(
    "module", ["fashion_mnist", "recipes", "pretrained", "runs.sources", "runs.terminal"]
)
def test_what_the_command_line_asks_first_needs_no_tensorflow(module):
    """Checked in one process of its own for each, since this one has TensorFlow already."""
    code = (
        f"import sys, fmgan_tf.{module}\n"
        "assert not {'tensorflow', 'keras', 'matplotlib', 'tensorflow_datasets'} & set(sys.modules), "
        "sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("words", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff_has_nothing_to_say(words):
    pytest.importorskip("ruff", reason="needs ruff, see requirements.txt")
    command = [sys.executable, "-m", "ruff", *words, "fmgan_tf", "tests"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
