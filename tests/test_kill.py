"""A training that is killed at random moments, and one that cannot write. `python tests/kill.py --kills 100`
does more of the former."""

import pathlib
import subprocess
import sys


def test_a_killed_run_ends_where_an_uninterrupted_one_does():
    script = pathlib.Path(__file__).with_name("kill.py")
    result = subprocess.run(
        [sys.executable, script, "--kills", "2", "--small"], capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kills so far" in result.stdout


FULL_DISK = """
import contextlib, io, pathlib, resource, shutil, sys
sys.path.insert(0, sys.argv[1])
import kill, small
from fmgan_tf import __main__, fashion_mnist
fashion_mnist.load = small.squares
whole, full = (pathlib.Path(sys.argv[2], name) for name in ("whole", "full"))
def train(*arguments):
    return __main__.main(["train", *map(str, arguments)])
assert train("dcgan", "--epochs", 1, *kill.SMALL[3:], "--output", whole) == 0
shutil.copytree(whole, full)
kept = (full / "checkpoint.weights.h5").read_bytes()
assert len(kept) > 2_000_000
more = ("--resume", "--epochs", 2, "--output")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
with contextlib.redirect_stderr(io.StringIO()) as errors:
    assert train(*more, full) == 2
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert (full / "checkpoint.weights.h5").read_bytes() == kept
print(errors.getvalue(), flush=True)
for folder in (whole, full):
    assert train(*more, folder) == 0
kill.compare(whole, full)
"""


def test_a_full_disk_loses_at_most_the_newest_checkpoint(tmp_path):
    """The system refuses files of more than a megabyte, in the middle of writing one: a checkpoint has
    several. In one process of its own, because deterministic operations are set per process."""
    command = [sys.executable, "-c", FULL_DISK, pathlib.Path(__file__).parent, tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Traceback" not in result.stdout
    said = f"Writing to {tmp_path / 'full'} failed: File too large. It keeps its newest checkpoint"
    assert said in result.stdout
