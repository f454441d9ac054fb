"""The README says what the records say, and what it names is there."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_results_are_those_of_the_records():
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d.]+) ± ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", TEXT, re.M)
    assert {row[0] for row in rows} == {"dcgan", "deconv-gan"}
    for name, speed, distance, error, precision, recall in rows:
        folder = ROOT / "assets" / "three-minutes" / name
        run = json.loads((folder / "run.json").read_text())
        figures = json.loads((folder / "evaluation.json").read_text())["figures"]
        assert run["minutes"] == 3 and run["recipe"]["name"] == name and not run["overrides"]
        assert speed == f"{run['images_per_second']:,}"
        assert distance == f"{figures['fid_fmnist']['value']:.1f}"
        assert error == f"{figures['fid_fmnist']['standard_error']:.1f}"
        assert precision == f"{figures['precision']['value']:.2f}" and recall == f"{figures['recall']['value']:.2f}"
        assert figures["fid_fmnist"]["samples"] == 10_000


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    listed = set(re.findall(r"\(notebooks/(\w+\.ipynb)\)", TEXT))
    assert listed == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
