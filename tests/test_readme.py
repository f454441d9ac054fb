"""The README says what the records say, and what it names is there."""

import json
import pathlib
import re
import shutil

from fmgan_tf import pretrained, race, records

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_results_are_those_of_the_records():
    assert records.fill(TEXT) == TEXT, "run python -m fmgan_tf.records table"
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) ± ", TEXT, re.M)
    assert {row[0] for row in rows} >= {"dcgan", "deconv-gan"}
    for path in (ROOT / "assets" / "three-minutes").iterdir():
        run = json.loads((path / "run.json").read_text())
        assert run["minutes"] == 3 and run["recipe"]["name"] == path.name and not run["overrides"]
        assert run["status"] == "complete"


def test_a_table_follows_its_records(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "assets", tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    assert records.fill(TEXT) == TEXT
    path = tmp_path / "three-minutes" / "dcgan" / "evaluation.json"
    report = json.loads(path.read_text())
    report["figures"]["fid_fmnist"]["value"] = 98.7654
    path.write_text(json.dumps(report))
    assert "| 98.77 ± " in records.fill(TEXT) != TEXT


def test_what_is_said_of_the_race_is_what_its_records_say():
    said = " ".join(TEXT[TEXT.index("*A race on") : TEXT.index("To repeat it")].split())
    for folder, name, seconds, text, digits in (
        ("three-minutes", "cgan", 180, "after three minutes `cgan` stands at {}", 2),
        ("three-minutes", "prototype", 180, "the prototype it grew from at {}", 2),
        ("three-minutes", "cgan", 5, "`cgan` was at {} after five seconds", 0),
        ("twelve-minutes", "tutorial", 720, "stands at {} after twelve minutes", 0),
    ):
        rows, _ = race.read(ROOT / "assets" / "race" / folder)
        values = [
            row["fid_fmnist"] for row in rows if row["contender"] == name and 0 <= row["seconds"] - seconds < 0.5
        ]
        assert len(values) == 3
        low, mean, high = (f"{value:.{digits}f}" for value in (min(values), sum(values) / 3, max(values)))
        assert text.format(f"{mean} ({low} to {high})") in said.replace("After", "after"), (name, low, mean, high)


def test_what_is_said_of_the_long_run_is_what_its_record_says():
    folder = ROOT / "assets" / "thirty-minutes" / "cgan"
    run, report = (json.loads((folder / name).read_text()) for name in ("run.json", "evaluation.json"))
    assert run["minutes"] == 30 and not run["overrides"]
    said, figures = " ".join(TEXT.split()), report["figures"]
    fid, score = figures["fid_fmnist"], figures["classification_accuracy"]
    assert f"FID-FMNIST of {fid['value']:.2f} (floor {fid['floor']:.2f})" in said
    assert f"precision {figures['precision']['value']:.2f}, recall {figures['recall']['value']:.2f}" in said
    assert f"score of {score['value']:.1%} ({score['floor']:.1%} with as many real images)" in said


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    listed = set(re.findall(r"\(notebooks/(\w+\.ipynb)\)", TEXT))
    assert listed == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
