"""The path through Colab: nothing but the notebook, a module google.colab, and a repository to clone."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_first_cells_fetch_the_package_and_import_it(path, tmp_path):
    """In an empty folder, as a script. All that the notebook imports of the course must come from the "
    "clone."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git repository, to clone it")
    sources = [
        "".join(cell["source"])
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    bootstrap, imports = sources[:2]
    bootstrap, changed = re.subn(r'REPOSITORY = ".*"', f'REPOSITORY = "{ROOT.as_uri()}"', bootstrap)
    assert changed == 1 and "import" in imports
    stub = tmp_path / "stub" / "google"
    stub.mkdir(parents=True)
    (stub / "colab.py").write_text("")
    content = tmp_path / "content"
    content.mkdir()
    script = (
        "import google.colab\n" + bootstrap + "\nimport matplotlib\nmatplotlib.use('agg')\n" + imports + "\n"
        "loaded = {name: module for name, module in sys.modules.items() if name.split('.')[0] == "
        "'fmgan_tf'}\n"
        "assert loaded\n"
        "for name, module in loaded.items():\n"
        "    assert pathlib.Path(module.__file__).is_relative_to(pathlib.Path.cwd() / 'fmgan'), "
        "module.__file__\n"
    )
    for _ in range(2):  # the second time, as after a restart of the kernel, the clone is there already
        result = subprocess.run(
            [sys.executable, "-c", script],
            cwd=content,
            env={
                "PYTHONPATH": str(tmp_path / "stub"),
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr[-2000:]
    assert [item.name for item in content.iterdir()] == ["fmgan"]
