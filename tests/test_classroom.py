"""What teachers get: notebooks without solutions, tasks that tell right from wrong, answers and slides."""

import doctest
import importlib.util
import json
import re
import runpy

import classroom
import nbformat
import pytest
from tasks import TASKS


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    classroom.write(folder)
    return folder


each_task = pytest.mark.parametrize("number", sorted(TASKS))


@each_task
def test_students_get_questions_without_answers(number, pack):
    path = dict(classroom.notebooks())[number]
    text = (pack / "student" / f"{number}.ipynb").read_text()
    assert "<details>" not in text and "Solution" not in text and "<summary>" not in text
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) == len(json.loads(path.read_text())["cells"]) + 3
    shown = "\n".join(cell.source for cell in notebook.cells)
    assert "## Quiz" in shown and "## Exercises" in shown
    assert shown.endswith(classroom.check_cell(TASKS[number].check))


def run(code, check, capsys):
    space = {}
    exec(code, space)
    exec(classroom.check_cell(check), space)
    return capsys.readouterr().out


@each_task
def test_a_check_says_right_and_wrong(number, capsys):
    task = TASKS[number]
    assert run(task.solution, task.check, capsys) == "right\n"
    try:
        found = run(task.blank, task.check, capsys)
    except Exception:  # some blanks fail by themselves
        found = "wrong"
    assert found.startswith("wrong") and "..." in task.blank and "..." not in task.solution
    assert run("", task.check, capsys).startswith(("not yet", "wrong"))


@each_task
def test_the_files_for_otter_grader_hold_the_same_check(number, pack):
    test = runpy.run_path(str(pack / "autograder" / number / "tests" / "task.py"))["test"]
    (case,) = test["suites"][0]["cases"]
    for code, failures in ((TASKS[number].solution, 0), ("", 1)):
        space = {}
        exec(code, space)
        examples = doctest.DocTestParser().get_doctest(case["code"], space, "task", None, 0)
        found = doctest.DocTestRunner(verbose=False).run(examples, out=lambda text: None)
        assert min(found.failed, 1) == failures


def test_the_answer_book_has_every_answer(pack):
    text = classroom.answers()
    folded = sum(path.read_text().count("<details>") for _, path in classroom.notebooks())
    assert text.count("**Answer.**") == folded and "<details>" not in text
    assert all(task.solution.strip() in text for task in TASKS.values())
    assert (pack / "answers.html").stat().st_size > 10_000


@each_task
def test_slides_have_headings_figures_and_little_text(number):
    deck = classroom.slides(dict(classroom.notebooks())[number])
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in deck.cells]
    assert kinds[0] == "slide" and set(kinds) == {"slide", "subslide"} and kinds.count("slide") > 8
    texts = [cell.source for cell in deck.cells if cell.cell_type == "markdown"]
    assert all(text.startswith("## ") for text in texts) and "<details>" not in "".join(texts)
    assert sorted(len(text.split()) for text in texts)[len(texts) // 2] < 70
    assert any("figure" in cell.metadata.get("tags", []) for cell in deck.cells)


def test_slides_ask_nobody(pack):
    if not all(importlib.util.find_spec(name) for name in ("sphinx_revealjs", "latex2mathml")):
        pytest.skip("needs sphinx-revealjs and latex2mathml")
    for number in TASKS:
        text = (pack / "slides" / f"{number}.html").read_text()
        assert "Reveal.initialize" in text and len(text) < 2e6
        assert not re.search(r"""(src|href)=["'](http|//)[^>]*\.(js|css)|@import|url\(http""", text)
