"""A training that is killed at random moments. `python tests/kill.py --kills 100` does more of the same."""

import pathlib
import subprocess
import sys


def test_a_killed_run_ends_where_an_uninterrupted_one_does(fashion_mnist):
    script = pathlib.Path(__file__).with_name("kill.py")
    result = subprocess.run([sys.executable, script, "--kills", "2"], capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kills so far" in result.stdout
