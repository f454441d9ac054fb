"""The page of the project: its links, its rubric, and that its output is that of its code."""

import re

import project

TEXT = project.PAGE.read_text()


def test_the_output_is_that_of_the_code_and_the_shipped_model():
    assert re.search(project.OUTPUT, TEXT)[1] == project.mark(TEXT), "run python assets/make/project.py"


def test_links_work_in_a_checkout():
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert link.startswith("http") or (project.PAGE.parent / link).exists(), link


def test_the_rubric_has_ten_points():
    rubric = TEXT[TEXT.index("## For marking") : TEXT.index("## A worked example")]
    assert sum(int(points) for points in re.findall(r"^\| (\d) \|", rubric, re.M)) == 10


def test_the_answer_is_what_the_output_says():
    shown = {line.split()[0]: line for line in re.search(project.OUTPUT, TEXT)[0].splitlines()[2:-2]}
    number = r"([+-][\d.]+)"
    low, high = (
        [
            [float(value) for value in found]
            for found in re.findall(rf"\({number} to {number}\)", shown[factor])
        ]
        for factor in ("0.7", "1.15")
    )  # for each factor (low, high) of precision, recall, FID-FMNIST and the label-free distance
    assert low[0][0] > 0 > low[1][1] and low[2][0] > 0 and low[3][0] > 0
    assert -low[1][1] > 2 * low[0][0] and low[1][1] < -low[0][1]
    assert high[0][1] < 0 and high[1][0] < 0 < high[1][1] and high[2][0] > 0 > high[3][1]
