"""A training that is killed at random moments, and one that cannot write. `python tests/kill.py --kills 100`
does more of the former."""

import pathlib
import resource
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import kill


def test_a_killed_run_ends_where_an_uninterrupted_one_does():
    script = pathlib.Path(__file__).with_name("kill.py")
    result = subprocess.run(
        [sys.executable, script, "--kills", "2", "--small"], capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kills so far" in result.stdout


def test_a_full_disk_loses_at_most_the_newest_checkpoint(tmp_path):
    """The system refuses files of more than a megabyte, in the middle of writing one: a checkpoint has
    several."""
    whole, full = tmp_path / "whole", tmp_path / "full"
    kill.finish(kill.start(*kill.SMALL[:1], "--epochs", 1, *kill.SMALL[3:], "--output", whole, small=True))
    shutil.copytree(whole, full)
    kept = (full / "checkpoint.weights.h5").read_bytes()
    assert len(kept) > 2_000_000
    more = ("--resume", "--epochs", 2, "--output")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # noqa: E731
    process = kill.start(*more, full, small=True, preexec_fn=limit)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2 and "Traceback" not in errors, errors
    last = errors.splitlines()[-1]  # TensorFlow greets before it
    assert f"Writing to {full} failed: File too large. It keeps its newest checkpoint" in last
    assert (full / "checkpoint.weights.h5").read_bytes() == kept
    for folder in (whole, full):
        kill.finish(kill.start(*more, folder, small=True))
    kill.compare(whole, full)
