"""The page in which a generator runs, in headless Chromium where there is one."""

import json
import re
import shutil
import subprocess

import keras
import numpy as np
import pytest

from fmgan_tf import InputError, generation, plots
from fmgan_tf.runs import page, sources

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ASK = """<script>
const found = CASES.map(([noise, label]) => Array.from(generate(noise, [label, label, 0])));
document.body.insertAdjacentHTML("beforeend", "<pre id=found>" + JSON.stringify(found) + "</pre>");
</script>"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name in generation.shipped():
        page.write(sources.open(name), folder / f"{name}.html")
    return folder


@pytest.mark.parametrize("name", generation.shipped())
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_makes_the_images_that_keras_makes(name, written, tmp_path):
    """To one gray level, for twenty noise vectors: the weights are the same, in half precision."""
    generator = sources.open(name).generator
    noise = generation.sample_noise(5, 20, generator.latent_dim)
    labels = np.arange(20) % max(1, generator.classes)
    images = generation.sample_images(generator, noise, labels if generator.classes else None)
    cases = json.dumps([[each.tolist(), int(label)] for each, label in zip(noise, labels, strict=True)])
    text = (written / f"{name}.html").read_text().replace("</body>", ASK.replace("CASES", cases) + "</body>")
    (tmp_path / "page.html").write_text(text)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        f"--user-data-dir={tmp_path / 'data'}",
    ]
    shown = subprocess.run(
        [CHROMIUM, *flags, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=300
    ).stdout
    found = np.array(json.loads(re.search(r'<pre id="found">(.*?)</pre>', shown)[1]))
    assert np.abs(found - images.reshape(20, -1).astype(int)).max() <= 1
    assert len(np.unique(found, axis=0)) == 20
    if generator.classes:
        assert f">{generator.class_names[-1]}</option>" in shown


def test_the_page_is_whole_and_asks_nobody(written):
    for path in written.iterdir():
        text = path.read_text()
        assert "default-src 'none'" in text and not re.search(r"https?://|src=|@import|fetch\(", text)
    assert (written / "cgan.html").stat().st_size < 1.5e6


def test_the_page_in_assets_is_that_of_the_shipped_model(written):
    """By `python -m fmgan_tf page cgan --output assets/cgan/page.html`; the weights are one line."""
    assert (generation.ASSETS / "cgan" / "page.html").read_text() == (written / "cgan.html").read_text()


def contrast(one, two):
    """Between two colors, #rgb or #rrggbb: from 1 to 21, by https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""

    def luminance(color):
        digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
        parts = np.array([int(digits[place : place + 2], 16) for place in (0, 2, 4)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    dark, light = sorted((luminance(one), luminance(two)))
    return (light + 0.05) / (dark + 0.05)


def test_texts_and_lines_have_contrast_also_in_dark_mode(written):
    assert contrast("#000", "#fff") == pytest.approx(21) and contrast("#777777", "#fff") == pytest.approx(
        4.48, abs=0.01
    )
    text = (written / "cgan.html").read_text()
    light, dark = re.findall(r":root \{([^}]*--text[^}]*)\}", text)
    for theme in (light, dark):
        colors = dict(re.findall(r"--(\w+): (#\w+)", theme))
        assert (
            contrast(colors["text"], colors["page"]) >= 7 and contrast(colors["soft"], colors["page"]) >= 4.5
        )
        assert contrast(colors["accent"], colors["page"]) >= 3
    for color in (plots.BLUE, plots.ORANGE):
        assert contrast(color, "#ffffff") >= 3


def test_what_a_page_cannot_run_is_said():
    noise = keras.Input((4,), name="noise")
    strange = keras.Model(noise, keras.layers.GaussianNoise(0.1, name="fog")(noise))
    with pytest.raises(InputError, match="a page cannot run the layer 'fog', a GaussianNoise"):
        page.Steps(strange)
    bent = keras.Model(noise, keras.layers.Dense(2, activation="elu", name="bent")(noise))
    with pytest.raises(InputError, match="cannot run the activation 'elu' of the layer 'bent'"):
        page.Steps(bent)


def test_images_have_no_page(tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros((300, 28, 28), "uint8"))
    with pytest.raises(InputError, match="holds images, expected a generator"):
        page.write(sources.open(tmp_path / "images.npz"), tmp_path / "page.html")
