"""Rules that hold for every notebook, beside what nbval runs."""

import ast
import base64
import importlib.util
import json
import pathlib
import re
import symtable
import sys

import pages
import pytest
import reach
import stamp

import notebooks

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TAGS = {"nbval-ignore-output", "parameters"}


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_skeleton(path):
    text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    assert re.match(r"# \S", text)
    first = ["What you will build", "Goals", "What you need to know", "Setup", "Parameters"]
    wanted = [*first, "Recap", "Quiz", "Exercises", "Where to go next"]
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert [heading for heading in headings if heading in wanted] == wanted
    assert headings[:5] == wanted[:5] and len(headings) > len(wanted)
    last = [heading for heading in headings[-5:] if heading != "What these runs cannot show"]
    assert last[-4:] == wanted[-4:]
    minutes = re.search(r"^\*\*Time:\*\* (\d+) minutes to read, .*minute", text, re.M)[1]
    assert int(minutes) == pages.reading_minutes(path)
    assert "attachment:" in text and "](../" not in re.sub(r"\]\(\.\./[\w./-]+\.ipynb\)", "", text)
    quiz = text[text.index("## Quiz") : text.index("## Exercises")]
    assert quiz.count("<details>") == quiz.count("</details>") == 3
    exercises = text[text.index("## Exercises") :]
    assert exercises.count("<details>") == exercises.count("</details>") >= 2


@each_notebook
def test_badge_and_bootstrap_carry_the_address_of_pyproject(path):
    text = path.read_text()
    address = stamp.repository()
    slug = address.removeprefix("https://github.com/")
    assert f"colab.research.google.com/github/{slug}/blob/main/notebooks/{path.name}" in text
    if "fmgan_tf" in text:  # 00 pastes into an empty notebook
        assert f'REPOSITORY = "{address}"' in source(cells(path, "code")[0])


def test_stamping_changes_the_address_everywhere_and_nothing_else():
    for path in stamp.pages():
        text = path.read_text()
        assert stamp.stamp(text, stamp.repository()) == text
        moved = stamp.stamp(text, "https://github.com/somebody/else")
        if path.suffix == ".ipynb":
            assert moved != text and "somebody/else" in moved
            json.loads(moved)
        assert stamp.stamp(moved, stamp.repository()) == text


@each_notebook
def test_outputs(path):
    assert path.stat().st_size < 2**20
    counts = []
    for cell in cells(path, "code"):
        counts.append(cell["execution_count"])
        for output in cell["outputs"]:
            assert output.get("name") != "stderr" and output["output_type"] != "error", source(cell)
            assert not any("widget" in mime for mime in output.get("data", {})), source(cell)
            data = output.get("data", {})
            data = {mime: text for mime, text in data.items() if not mime.startswith("image/")}
            text = json.dumps(output | {"data": data})
            text = re.sub('base64,[^"]*', "", text)  # letters of an encoded picture say nothing
            assert not re.search(r"/home/|/root/|/work/|/tmp/|/Users/", text), text[:200]
    assert counts == list(range(1, len(counts) + 1)), "run it from top to bottom in a fresh kernel"


@each_notebook
def test_outputs_are_those_of_the_current_code(path):
    """Of its cells and of what they reach in the package: pictures cannot go stale unseen."""
    notebook = json.loads(path.read_text())
    assert notebook["metadata"].get("fmgan") == notebooks.digest(notebook), (
        f"run python assets/make/notebooks.py {path.name[:2]}"
    )


@each_notebook
def test_outside_a_checkout_the_first_cell_says_what_to_do(path, monkeypatch):
    if "fmgan_tf" not in path.read_text():
        pytest.skip("needs nothing but what Colab has")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(
        ModuleNotFoundError, match=r"clone http\S+, run ./setup.sh in it, and choose the kernel"
    ):
        exec(source(cells(path, "code")[0]), {})


@each_notebook
def test_every_picture_has_alternative_text(path):
    for cell in json.loads(path.read_text())["cells"]:
        pictures = [each for each in cell.get("outputs", []) if "image/png" in each.get("data", {})]
        texts = [each["metadata"].get("image/png", {}).get("alt") for each in pictures]
        assert texts == cell["metadata"].get("alt", []), cell["id"]
        pages = ["".join(each.get("data", {}).get("text/html", "")) for each in cell.get("outputs", [])]
        texts += [alt for page in pages for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page)]
        assert all(20 <= len(text) <= 300 for text in texts), cell["id"]
        assert not any("image/gif" in each.get("data", {}) for each in cell.get("outputs", [])), "no text"
        assert sum(page.count("<img") for page in pages) == sum(page.count('alt="') for page in pages)


@each_notebook
def test_parameters_are_in_one_cell_with_reasons(path):
    notebook = json.loads(path.read_text())["cells"]
    heading = next(index for index, cell in enumerate(notebook) if "## Parameters" in source(cell))
    cell = next(cell for cell in notebook[heading:] if cell["cell_type"] == "code")
    names = [node.targets[0].id for node in ast.parse(source(cell)).body if isinstance(node, ast.Assign)]
    assert names and all(name == name.upper() for name in names)
    assert "parameters" in cell["metadata"]["tags"]  # papermill goes by it
    for line in source(cell).splitlines():
        assert not re.match(r"[A-Z]", line) or "#" in line, f"no reason: {line}"


@each_notebook
def test_a_cell_can_be_run_again_after_later_ones(path):
    """None takes from before it what a later one calls by the same name."""
    shared, taken = set(), set()
    for cell in cells(path, "code"):
        symbols = symtable.symtable(source(cell), "cell", "exec").get_symbols()
        bound = {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}
        shared |= taken & bound
        taken |= {each.get_name() for each in symbols if each.is_referenced()} - bound
    assert not shared


@each_notebook
def test_no_comment_that_only_a_tool_understands(path):
    for cell in cells(path, "code"):
        assert not re.search(r"#\s*(NBVAL|noqa|type:|pylint|fmt:|@)", source(cell))
        assert set(cell["metadata"].get("tags", [])) <= TAGS
        assert not re.search(r"^\s*[!%]|import \*", source(cell), re.M), source(cell)


@each_notebook
def test_notebooks_import_the_course_alone(path):
    for cell in cells(path, "code"):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("fmgan_tf") for alias in node.names), source(cell)
            elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "fmgan_tf":
                reached = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                assert not any(name.startswith("fmgan_tf.runs") for name in reached), source(cell)


def bare(node):
    """The code of a definition without docstrings and without imports, which a notebook has at its top."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef):
            own = [each for each in inner.body if not isinstance(each, ast.Import | ast.ImportFrom)]
            inner.body = own or [ast.Pass()]
    return reach.bare(node)


def definitions(text):
    """Every function and method that a text defines; a notebook may leave out methods of a class."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, bare(node)
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    yield f"{node.name}.{method.name}", bare(method)


PACKAGE = {
    name: code
    for path in sorted((ROOT / "fmgan_tf").glob("[!_]*.py"))
    for name, code in definitions(path.read_text())
}
TAUGHT = {  # what each notebook must show in full
    "01_data_and_preprocessing": {"to_tanh_range", "from_tanh_range"},
    "02_dcgan": {"build_dcgan_generator", "build_dcgan_discriminator"},
    "03_adversarial_training": {
        "cross_entropy_discriminator",
        "non_saturating_generator",
        "minimax_generator",
        "zero_centered_penalty",
        "GAN.train_step",
        "GAN.update",
        "GAN.update_average",
    },
    "04_conditional_gan": {
        "embed_label",
        "build_cgan_generator",
        "build_concatenating_discriminator",
        "build_label_map_discriminator",
        "build_projection_discriminator",
        "hinge_discriminator",
        "hinge_generator",
    },
    "08_other_games": {"Flow.train_step"},
    "04b_dense_cgan": {"build_dense_cgan_generator", "build_dense_cgan_discriminator"},
    "05_fid": {"trace_of_root"},
    "06_analysis": {"attributes", "effect_size", "diversity", "hidden_layer"},
    "07_faster_and_better": {
        "shift",
        "build_classifying_discriminator",
        "build_modulated_generator",
        "ConditionalGAN.__init__",
        "ConditionalGAN.discriminate",
        "ConditionalGAN.offsets",
        "damped_hinge_discriminator",
    },
}


@each_notebook
def test_inline_code_is_the_code_of_the_package(path):
    shown = {}
    for cell in cells(path, "code"):
        shown |= dict(definitions(source(cell)))
    assert TAUGHT.get(path.stem, set()) <= set(shown)
    for name in set(shown) & set(PACKAGE):
        assert shown[name] == PACKAGE[name], name


@each_notebook
def test_attached_pictures_are_those_that_the_notebook_drew(path):
    attached = 0
    by_id = {cell["id"]: cell for cell in json.loads(path.read_text())["cells"]}
    for cell in cells(path, "markdown"):
        pictures, shown = cell["metadata"].get("pictures", {}), cell.get("attachments", {})
        assert set(shown) == set(pictures), cell["id"]
        for name, origin in pictures.items():
            if origin.startswith("assets/"):
                drawn = [base64.b64encode((ROOT / origin).read_bytes()).decode()]
            else:
                drawn = [output.get("data", {}).get("image/png") for output in by_id[origin]["outputs"]]
            assert next("".join(png) for png in drawn if png) == "".join(shown[name]["image/png"])
            attached += 1
    assert attached
