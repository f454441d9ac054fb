"""Nonsense in, one clear line out. `python tests/fuzz.py` tries 10,000 inputs."""

import pathlib
import re
import subprocess
import sys


def test_nonsense_ends_in_one_clear_line():
    script = pathlib.Path(__file__).with_name("fuzz.py")
    result = subprocess.run(
        [sys.executable, script, "--inputs", "500"], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0 and "0 failures" in result.stdout, result.stdout + result.stderr
    refused = re.findall(r"([\d,]+) inputs, ([\d,]+) refused", result.stdout)
    assert len(refused) == 5 and all(int(count) for pair in refused for count in pair)
