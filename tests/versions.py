"""Runs the tests with the oldest and newest packages that requirements.txt allows, and with Colab's.

python tests/versions.py FOLDER

Each in an environment of its own in FOLDER, which is made if need be and kept for the next time (2.5 GB
each): "oldest" has the lower bound of every line, "colab" what Google Colab had in August 2026, "newest"
whatever pip finds. Arguments after FOLDER go to pytest.
"""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
ENVIRONMENTS = ("oldest", "colab", "newest")
# What tensorflow-datasets brings needs a newer protobuf than TensorFlow 2.18 takes, and does not say so
OLDEST_TOO = ["tensorflow-metadata<1.18"]
COLAB = ["tensorflow==2.20.0", "keras==3.13.2", "numpy==2.1.3", "scipy==1.16.3"]
SHOWN = ("tensorflow", "keras", "numpy", "tensorflow-datasets", "scikit-learn", "scipy", "matplotlib")


def bounds(text):
    """The lines of a requirements.txt with every lower bound as the version: "numpy>=1.26  # why" gives
    "numpy==1.26.*"."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = re.findall(r"^([\w-]+)>=([\d.]+)", text, re.M)
    assert len(found) == len(lines)
    return [f"{name}=={version}.*" for name, version in found]


def main(folder, *arguments):
    results = {}
    for name in ENVIRONMENTS:
        environment = pathlib.Path(folder).resolve() / name
        python = environment / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        file = ROOT / "requirements.txt"
        wanted = {
            "oldest": bounds(file.read_text()) + OLDEST_TOO,
            "colab": ["-r", file, *COLAB],
            "newest": ["--upgrade", "-r", file],
        }[name]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        listing = [python, "-m", "pip", "list", "--format=freeze"]
        found = subprocess.run(listing, check=True, capture_output=True, text=True)
        versions = dict(line.split("==") for line in found.stdout.splitlines() if "==" in line)
        results[name] = [f"{package} {versions[package]}" for package in SHOWN]
        print(f"{name}: {', '.join(results[name])}", flush=True)
        # Nothing is installed with -e: the source tree keeps the installation of whoever works in it
        paths = os.environ | {"PYTHONPATH": str(ROOT)}
        run = subprocess.run([python, "-m", "pytest", "-q", "tests", *arguments], cwd=ROOT, env=paths)
        results[name].append("passed" if run.returncode == 0 else f"FAILED ({run.returncode})")
    for name, lines in results.items():
        print(f"{name}: {', '.join(lines)}")
    return int(any("FAILED" in lines[-1] for lines in results.values()))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
