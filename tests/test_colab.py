"""The path through Colab: nothing but the notebooks, a module google.colab, and a repository to clone."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = """
import json, os, pathlib, sys
import google.colab
before = set(sys.modules)
for bootstrap, imports in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    for name in set(sys.modules) - before:  # each notebook as if it were the first
        if name.split(".")[0] == "fmgan_tf":
            del sys.modules[name]
    cells = {}
    exec(bootstrap, cells)
    import matplotlib
    matplotlib.use("agg")
    exec(imports, cells)
    loaded = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "fmgan_tf"}
    assert loaded
    for name, module in loaded.items():
        assert pathlib.Path(module.__file__).is_relative_to(pathlib.Path.cwd() / "fmgan"), module.__file__
    sys.path.remove("fmgan")
"""


def test_the_first_cells_fetch_the_package_and_import_it(tmp_path):
    """In an empty folder, as a script. All that a notebook imports of the course must come from the clone."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git repository, to clone it")
    cells = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text())["cells"]
        sources = ["".join(cell["source"]) for cell in notebook if cell["cell_type"] == "code"]
        if not any("fmgan_tf" in each for each in sources):
            continue  # 00 needs no package
        bootstrap, imports = sources[:2]
        bootstrap, changed = re.subn(r'REPOSITORY = ".*"', f'REPOSITORY = "{ROOT.as_uri()}"', bootstrap)
        assert changed == 1 and "import" in imports, path
        cells.append([bootstrap, imports])
    (tmp_path / "cells.json").write_text(json.dumps(cells))
    stub = tmp_path / "stub" / "google"
    stub.mkdir(parents=True)
    (stub / "colab.py").write_text("")
    content = tmp_path / "content"
    content.mkdir()
    paths = {"PYTHONPATH": str(tmp_path / "stub"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    for number in range(2):  # the second time, as after a restart of the kernel, the clone is there already
        if number:
            light = [[bootstrap, "from fmgan_tf import recipes"] for bootstrap, _ in cells]
            (tmp_path / "cells.json").write_text(json.dumps(light))
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, tmp_path / "cells.json"],
            cwd=content,
            env=paths | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr[-2000:]
    assert [item.name for item in content.iterdir()] == ["fmgan"]
