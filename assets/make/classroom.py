"""What a teacher hands out and keeps: python assets/make/classroom.py --output FOLDER

student/NN.ipynb    the notebooks without solutions, each with a task to complete and a check of it
answers.html        all answers and solutions, and those of the tasks
autograder/NN/      the same checks for otter-grader: `otter check student/NN.ipynb -t autograder/NN/tests`
slides/NN.html      headings, key sentences, formulas, figures and short code of a notebook, in one file that
                    needs no network; takes the packages sphinx-revealjs (it has reveal.js) and latex2mathml
"""

import ast
import importlib.util
import pathlib
import re

import nbformat
import script
from nbformat import v4 as new
from tasks import TASKS

from fmgan_tf import InputError

ROOT = pathlib.Path(__file__).parents[2]
FOLDED = re.compile(r"\n*<details><summary>.*?</summary>(.*?)</details>", re.S)
SHORT = 25  # lines of code on a slide
LOOK = """
.reveal { font-size: 28px }
.reveal .slides { text-align: left }
.reveal h1, .reveal h2 { text-transform: none }
.reveal .highlight pre { font-size: 17px; white-space: pre-wrap }
.reveal img { width: 1000px; max-height: 600px; object-fit: contain; object-position: left }
"""
RIGHT = """
try:
{lines}
except NameError as error:
    print("not yet:", error)
except Exception as error:
    print("wrong:", type(error).__name__, error)
else:
    print("right")
"""


def notebooks():
    """(number, path) of every notebook that has a task."""
    found = {path.name.split("_")[0]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    if missing := set(found) ^ set(TASKS):
        raise InputError(f"notebooks and tasks differ: {', '.join(sorted(missing))}")
    return found.items()


def without_solutions(text):
    """Markdown without what is folded away; the questions stay."""
    return FOLDED.sub("", text)


def check_cell(check):
    """Code that says whether a task is done."""
    lines = []
    for statement in ast.parse(check).body:
        code = ast.unparse(statement)
        failed = isinstance(statement, ast.Assert)
        lines.append(f"{code}, {ast.unparse(statement.test)!r}" if failed else code)
    return RIGHT.format(lines="\n".join(f"    {line}" for line in lines)).strip()


def student(number, path):
    """The notebook as students get it."""
    notebook, task = nbformat.read(path, as_version=4), TASKS[number]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = without_solutions(cell.source)
    notebook.cells += [
        new.new_markdown_cell(
            f"## Task\n\n{task.text}\n\nReplace every `...`, run the cell, then the check."
        ),
        new.new_code_cell(task.blank.strip(), id="task"),
        new.new_code_cell(check_cell(task.check), id="check"),
    ]
    notebook.metadata.pop("fmgan", None)  # says of which code the outputs are: no longer of this
    return notebook


def otter(number):
    """A test file of otter-grader."""
    lines = [ast.unparse(statement) for statement in ast.parse(TASKS[number].check).body]
    code = "\n".join(f">>> {line}" for line in lines)
    case = {"code": code, "hidden": False, "locked": False}
    suite = {"cases": [case], "scored": True, "setup": "", "teardown": "", "type": "doctest"}
    return f"OK_FORMAT = True\n\ntest = { ({'name': 'task', 'points': 1, 'suites': [suite]})!r}\n"


def answers():
    """All that is folded in the notebooks, with what it answers, and the tasks, as one Markdown text."""
    parts = ["# Answers"]
    for number, path in notebooks():
        texts = [
            cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
        ]
        text = "\n\n".join(texts)
        part = text[text.index("## Quiz") : text.index("## Where to go next")].split("## What these runs")[0]
        shown = FOLDED.sub(r"\n\n**Answer.** \1", part).replace("## ", "### ")
        task = f"### Task\n\n{TASKS[number].text}\n\n```python\n{TASKS[number].solution.strip()}\n```"
        parts.append(f"## {texts[0].splitlines()[0].removeprefix('# ')}\n\n{shown}\n\n{task}")
    return "\n\n".join(parts)


def key_sentences(text):
    """What of a section goes on its slide: its first sentence, lists, formulas and what is in bold."""
    chosen, blocks = [], re.split(r"\n\s*\n", without_solutions(text).strip())
    for place, block in enumerate(blocks):
        if block.startswith(("$$", "- ", "* ", "|")) or re.match(r"\d+\. ", block):
            chosen.append(block)
        elif bold := [
            each for each in re.split(r"(?<=[.:?!])\s", block) if re.search(r"\*\*[^*]{12,}\*\*", each)
        ]:
            chosen += bold
        elif place == 0 and not block.startswith(("#", "```", "<", "![", "[![")):
            chosen.append(re.split(r"(?<=[.:?!])\s", block)[0])
    return "\n\n".join(chosen)


def slides(path):
    """A notebook of slides, tagged for nbconvert: one for every section, with one below for every figure and
    every short cell of code that is not folded."""
    deck, skip, title = [], True, ""

    def add(kind, cell):
        cell.metadata["slideshow"] = {"slide_type": kind}
        deck.append(cell)

    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for section in re.split(r"^(?=##? )", cell.source, flags=re.M):
                heading = re.match(r"##? (.*)", section)
                title = heading[1] if heading else title
                if heading:
                    skip = title in ("Setup", "Parameters", "What you need to know", "Exercises")
                text = key_sentences(re.sub(r"^##? .*\n?", "", section))
                picture = re.search(r"!\[[^]]*\]\(attachment:[^)]*\)", section)
                shown = "\n\n".join([f"## {title}", *([picture[0]] if picture else []), text])
                if not skip and (heading or text):
                    extra = {"attachments": cell.attachments} if picture else {}
                    add("slide" if heading else "subslide", new.new_markdown_cell(shown, **extra))
            continue
        pictures = [each for each in cell.outputs if {"image/png", "text/html"} & set(each.get("data", {}))]
        if pictures and not skip:
            add("subslide", new.new_code_cell("", outputs=pictures, metadata={"tags": ["figure"]}))
        elif not skip and not cell.metadata.get("jupyter") and len(cell.source.splitlines()) <= SHORT:
            add("subslide", cell)
    return new.new_notebook(cells=deck, metadata={"language_info": {"name": "python"}})


def with_mathml(cell):
    """Formulas as MathML, which browsers show without help."""
    from latex2mathml.converter import convert

    if cell.cell_type == "markdown":
        for mark, display in (("$$", "block"), ("$", "inline")):
            parts = cell.source.split(mark)
            parts[1::2] = [convert(formula.strip(), display=display) for formula in parts[1::2]]
            cell.source = "".join(parts)
    return cell


def deck(notebook, name):
    """The slides as one page of HTML that asks nobody: nbconvert's, with reveal.js in it."""
    import nbconvert
    from nbconvert.preprocessors import TagRemovePreprocessor

    notebook.cells = [with_mathml(cell) for cell in notebook.cells]
    exporter = nbconvert.SlidesExporter(exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_preprocessor(TagRemovePreprocessor(remove_input_tags={"figure"}), enabled=True)
    html, _ = exporter.from_notebook_node(notebook)
    dist = next(
        pathlib.Path(importlib.util.find_spec("sphinx_revealjs").origin).parent.rglob("reveal.css")
    ).parent
    styles = [(dist / file).read_text() for file in ("reveal.css", "theme/white.css")]
    styles.append(LOOK)
    fonts = re.compile(r"@import url\([^)]*\);|@font-face\s*{[^}]*}")
    html = re.sub(
        r'<script[^>]*\bsrc="http[^>]*>.*?</script>|<link[^>]*\bhref="http[^>]*>', "", html, flags=re.S
    )
    head, _ = html.rsplit("<script>", 1)  # which would fetch reveal.js
    head = re.sub(r'<script type="text/x-mathjax-config">.*?</script>', "", head, flags=re.S)
    style = "".join(f"<style>{fonts.sub('', text)}</style>" for text in styles)
    head = head.replace("</head>", f"{style}</head>").replace(
        "<title>Notebook</title>", f"<title>{name}</title>"
    )
    start = (
        "Reveal.initialize({width: 1100, height: 760, hash: true, transition: 'none', slideNumber: true});"
    )
    return f"{head}<script>{(dist / 'reveal.js').read_text()}</script><script>{start}</script></body></html>"


def write(output):
    """Everything, into a folder; says what it could not make."""
    import nbconvert

    for number, path in notebooks():
        tests = output / "autograder" / number / "tests"
        for folder in (output / "student", output / "slides", tests):
            folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(student(number, path), output / "student" / f"{number}.ipynb")
        (tests / "task.py").write_text(otter(number))
        (tests.parent / "requirements.txt").write_text((ROOT / "requirements.txt").read_text())
    book = new.new_notebook(cells=[new.new_markdown_cell(answers())])
    (output / "answers.html").write_text(nbconvert.HTMLExporter().from_notebook_node(book)[0])
    needed = {"sphinx_revealjs": "sphinx-revealjs", "latex2mathml": "latex2mathml"}
    if missing := [name for module, name in needed.items() if not importlib.util.find_spec(module)]:
        print(f"no slides: they take {' and '.join(missing)} (pip install {' '.join(missing)})")
        return
    for number, path in notebooks():
        (output / "slides" / f"{number}.html").write_text(deck(slides(path), f"fmgan {number}"))


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, required=True)
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    write(output)
    print(f"Wrote {output}")


if __name__ == "__main__":
    script.run(main)
