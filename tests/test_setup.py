"""setup.sh where something is missing. The good way is what every new machine and CI run."""

import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def clone(tmp_path):
    """What setup.sh needs, in a folder with a space in its name."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("setup.sh", "requirements.txt", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "fmgan_tf", folder / "fmgan_tf", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def setup(clone, *options, **environment):
    return subprocess.run(
        [clone / "setup.sh", *options],
        cwd=clone.parent,  # it must work from any folder
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def script(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def one_line(result):
    assert result.returncode != 0 and result.stderr.count("\n") == 1, result
    return result.stderr


def test_unknown_option(clone):
    result = setup(clone, "--hear")
    assert result.returncode == 2 and "--here and --no-data" in one_line(result)


@pytest.mark.parametrize("system", ["MINGW64_NT-10.0-19045", "MSYS_NT-10.0", "CYGWIN_NT-10.0"])
def test_windows(clone, tmp_path, system):
    script(tmp_path / "bin" / "uname", f"echo {system}")
    error = one_line(setup(clone, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}"))
    assert system in error and "WSL" in error and not (clone / ".venv").exists()


def test_unsupported_python(clone, tmp_path):
    for name in ("python3", "python", "python3.10", "python3.11", "python3.12", "python3.13"):
        script(tmp_path / "bin" / name, 'case "$1" in --version) echo Python 3.8.1;; *) exit 1;; esac')
    error = one_line(setup(clone, PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin"))
    assert "Python 3.10 to 3.13" in error and "Python 3.8.1" in error
    assert not (clone / ".venv").exists()


def test_a_python_that_cannot_make_environments(clone, tmp_path):
    """As on Debian and Ubuntu without python3-venv."""
    script(
        tmp_path / "bin" / "python3",
        'case "$*" in "-m venv"*) echo "... because ensurepip is not available."; exit 1;; esac\n'
        f'exec "{sys.executable}" "$@"',
    )
    error = one_line(setup(clone, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}"))
    assert "apt install python3-venv" in error and not (clone / ".venv").exists()


def test_no_package_index(clone):
    nowhere = "http://127.0.0.1:9/simple"  # nobody listens there
    error = one_line(
        setup(
            clone, PIP_INDEX_URL=nowhere, PIP_EXTRA_INDEX_URL="", PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_RETRIES="0"
        )
    )
    assert "package index cannot be reached" in error


@pytest.mark.parametrize(
    "message, expected", [("OSError: No space left on device", "disk is full"), ("ERROR: odd", "ERROR: odd")]
)
def test_failing_installation(clone, message, expected):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    pip = next((clone / ".venv").glob("lib/python*/site-packages")) / "pip"
    pip.mkdir()
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text(f"raise SystemExit({message!r})")
    assert expected in one_line(setup(clone))


@pytest.mark.parametrize("model", [True, False], ids=["with the shipped cgan", "with nothing"])
def test_without_the_dataset_the_installation_still_succeeds(model, clone, tmp_path):
    """--here with the packages that are there already; the dataset's host is out of reach."""
    if model:
        shutil.copytree(ROOT / "assets" / "cgan", clone / "assets" / "cgan")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site / "known.pth").write_text("\n".join([*packages, str(clone)]))
    (site / "pip").mkdir()
    (site / "pip" / "__init__.py").touch()  # a whole package: it comes before the real pip of the other folders
    (site / "pip" / "__main__.py").write_text("print('Installing nothing')")
    arguments = {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "TFDS_DATA_DIR": str(tmp_path / "tfds"),
        "http_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
        "FMGAN_DATA_DIR": "",
        "PYTHONPATH": "",
    }
    result = setup(clone, "--here", **arguments)
    assert result.returncode == 0 and "the dataset is missing" in result.stderr and "FMGAN_DATA_DIR" in result.stderr
    assert ("Generated images stand in for it" in result.stderr) == model
    assert any((tmp_path / "tfds").rglob("*.npz")) == model
    assert "Installing nothing" in result.stdout and "python3 -m fmgan_tf train" in result.stdout
    again = setup(
        clone, "--here", "--no-data", **arguments
    )  # installed already: nothing to do, nothing to say about data
    assert again.returncode == 0 and "Installing" not in again.stdout and again.stderr == ""
