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


def one_line_of(text):
    assert text.count("\n") == 1, text
    return text


def one_line(result):
    assert result.returncode != 0, result
    return one_line_of(result.stderr)


def environment_with_pip(clone, code):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    pip = next((clone / ".venv").glob("lib/python*/site-packages")) / "pip"
    pip.mkdir()
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text(code)


def test_unknown_option(clone):
    result = setup(clone, "--hear")
    assert result.returncode == 2 and "no option '--hear'; there are --here and --no-data" in one_line(result)


@pytest.mark.parametrize("system", ["MINGW64_NT-10.0-19045", "MSYS_NT-10.0", "CYGWIN_NT-10.0"])
def test_windows(clone, tmp_path, system):
    script(tmp_path / "bin" / "uname", f"echo {system}")
    error = one_line(setup(clone, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}"))
    assert system in error and "WSL" in error and not (clone / ".venv").exists()


def test_intel_macs(clone, tmp_path):
    script(tmp_path / "bin" / "uname", '[ "$1" = -m ] && echo x86_64 || echo Darwin')
    error = one_line(setup(clone, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}"))
    assert "Intel" in error and "Apple silicon" in error and not (clone / ".venv").exists()


def test_an_environment_without_pip_and_a_managed_python(clone):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    assert "has no pip: remove .venv and run this again" in one_line(setup(clone, "--no-data"))
    shutil.rmtree(clone / ".venv")
    environment_with_pip(clone, "raise SystemExit('error: externally-managed-environment')")
    assert "run ./setup.sh without --here, which makes .venv" in one_line(setup(clone, "--no-data"))


def test_another_shell_is_as_good(clone):
    result = subprocess.run(["sh", "setup.sh", "--hear"], cwd=clone, capture_output=True, text=True)
    assert result.returncode == 2 and "no option '--hear'" in one_line(result)


def test_a_renamed_folder_gets_a_new_environment(clone):
    environment_with_pip(clone, "print('Successfully installed')")
    clone = clone.rename(clone.with_name("renamed"))
    result = setup(clone, "--no-data", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert ".venv was made in another folder, making it anew" in result.stdout
    python = clone / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def test_scripts_and_hashed_files_keep_their_line_ends():
    """In a clone by Git for Windows, which is used in WSL."""
    files = ["setup.sh", ".ci/run", "assets/SHA256SUMS", "requirements.txt"]
    command = ["git", "-C", ROOT, "check-attr", "eol", *files]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert found == [f"{name}: eol: lf" for name in files]


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
            clone,
            PIP_INDEX_URL=nowhere,
            PIP_EXTRA_INDEX_URL="",
            PIP_NO_INDEX="0",
            PIP_FIND_LINKS="",
            PIP_RETRIES="0",
        )
    )
    assert "package index cannot be reached" in error


@pytest.mark.parametrize(
    "message, expected",
    [
        ("OSError: No space left on device", "disk is full"),
        ("ERROR: odd", "ERROR: odd"),
        ("  ERROR: Could not find a version of it", "package: ERROR: Could not find a version of it. Check"),
    ],
)
def test_failing_installation(clone, message, expected):
    environment_with_pip(clone, f"raise SystemExit({message!r})")
    assert expected in one_line(setup(clone))


def test_the_next_command_can_be_pasted(clone):
    """From another folder too, and though there is a space in the name of this one."""
    environment_with_pip(clone, "")
    last = setup(clone, "--no-data").stdout.splitlines()[-1]
    assert last.endswith(".venv/bin/python -m fmgan_tf train")
    command = last.replace("-m fmgan_tf train", "--version")
    assert "Python 3" in subprocess.run(["bash", "-c", command], capture_output=True, text=True).stdout


PIP = """
for number in range(60):
    print(f"Collecting package-{number}>=1")
    print(f"  Downloading package_{number}-1.0-py3-none-any.whl ({'612.3' if number == 30 else '1.2'} MB)")
print("Installing collected packages: " + ", ".join(f"package-{number}" for number in range(60)))
print("Successfully installed " + " ".join(f"package-{number}-1.0" for number in range(60)))
"""


@pytest.fixture
def installed(clone, tmp_path):
    """The environment variables for `--here` in an environment that has all packages, and a pip that says so.

    Nothing is reachable: not the dataset's host, its mirror, nor Debian.
    """
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site / "known.pth").write_text("\n".join([*packages, str(clone)]))
    (site / "pip").mkdir()
    (
        site / "pip" / "__init__.py"
    ).touch()  # a whole package: it comes before the real pip of the other folders
    (site / "pip" / "__main__.py").write_text(PIP)
    return {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "TFDS_DATA_DIR": str(tmp_path / "tfds"),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
        "FMGAN_DATA_DIR": "",
        "PYTHONPATH": "",
    }


READY = "Ready. Train your first GAN (three minutes):\n  python3 -m fmgan_tf train\n"


@pytest.mark.skipif(
    pathlib.Path("/usr/share/datasets/fashion-mnist").exists(), reason="needs a missing dataset"
)
def test_without_the_dataset_the_installation_still_succeeds(clone, installed):
    """The whole way; the clone has no shipped generator, so nothing stands in."""
    result = setup(clone, "--here", **installed)
    assert result.returncode == 0 and "the dataset is missing" in result.stderr
    assert "set FMGAN_DATA_DIR" in result.stderr
    known = ("Fashion-MNIST: ", "fmgan_tf data: ", "setup.sh: ")  # nothing of TensorFlow's and absl's
    assert all(line.startswith(known) for line in result.stderr.splitlines()), result.stderr
    # Sixty packages in five lines
    assert result.stdout == (
        "Packages: installing those of requirements.txt, some minutes, 3 GB of disk\n"
        "  25 packages found\n"
        "  Downloading package_30 (612.3 MB)\n"
        "  50 packages found\n"
        "  Unpacking 60 packages, a minute or two\n"
        "Packages: installed\n"
        "Dataset: looking for Fashion-MNIST, 31 MB\n" + READY
    )
    again = setup(clone, "--here", "--no-data", **installed)
    assert again.returncode == 0 and again.stdout == READY and again.stderr == ""


def test_what_is_done_is_not_done_again(clone, installed, tmp_path):
    """With a stand-in for `python -m fmgan_tf data`, which prints the folder that the dataset is in."""
    command = clone / "fmgan_tf" / "__main__.py"
    stand_in, folder = tmp_path / "fmgan_stand_in", tmp_path / "fashion mnist"
    for path in (stand_in, folder):
        path.mkdir()
    for _ in range(2):  # while generated images stand in, every run looks for the real ones again
        command.write_text(f"print({str(stand_in)!r})")
        result = setup(clone, "--here", **installed)
        assert result.returncode == 0 and "Generated images stand in for it" in one_line_of(result.stderr)
        assert "Dataset: looking" in result.stdout and result.stdout.endswith(READY)
    assert "Packages" not in result.stdout

    command.write_text(f"print({str(folder)!r})")
    result = setup(clone, "--here", **installed)
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.endswith(f"Dataset: verified and prepared in {folder}\n" + READY)
    result = setup(clone, "--here", **installed)
    assert (result.returncode, result.stdout, result.stderr) == (0, READY, "")

    folder.rmdir()  # as when somebody tidied up
    assert "Dataset: looking" in setup(clone, "--here", **installed).stdout
    (clone / "requirements.txt").write_text("something new")
    assert "Packages: installing" in setup(clone, "--here", "--no-data", **installed).stdout
