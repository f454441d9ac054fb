"""Trainings that are killed at random moments. `python tests/kill.py --kills 100` does more of it."""

import pathlib
import subprocess
import sys


def test_killed_runs_end_where_uninterrupted_ones_do():
    script = pathlib.Path(__file__).with_name("kill.py")
    command = [sys.executable, script, "--kills", "2", "--small"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "dense-cgan: equal" in result.stdout and "2 kills so far" in result.stdout
