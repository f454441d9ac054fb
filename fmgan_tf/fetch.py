"""Where the four files of Fashion-MNIST come from, and how they are verified."""

import concurrent.futures
import contextlib
import gzip
import hashlib
import http.client
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib

from tqdm import tqdm

from fmgan_tf import InputError

# Bytes and SHA-256 of each file once it is unpacked, however it was packed (TFDS records those of the .gz)
FILES = {
    "t10k-labels-idx1-ubyte": (10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    "train-labels-idx1-ubyte": (60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "train-images-idx3-ubyte": (47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
}
MIRROR = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"  # of keras.datasets.fashion_mnist
PACKAGE = "dataset-fashion-mnist"  # in Debian and Ubuntu
PACKAGE_FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
CONNECT_SECONDS = 4  # for a host to answer
PATIENCE_SECONDS, SLOWEST = 6, 50_000  # after so long, a download has to bring so many bytes per second
APT_SECONDS = 30  # for all that apt-get does


class DataError(InputError):
    """The dataset is not available, or what was found is something else. The message says how to fix it."""


class Nowhere(DataError):
    """None of the places that may have the dataset has it."""


def say(text):
    """Tells the user, on standard error, what takes so long."""
    print(f"Fashion-MNIST: {text}", file=sys.stderr, flush=True)


def find(host):
    """The four contents, {name: bytes}, of the first place that has them, and what that place is called: the
    folder that FMGAN_DATA_DIR names, alone where it is set; Debian's package where it is installed; the
    dataset's host; Keras's mirror; that package, fetched by apt-get. Nowhere if none has them."""
    if local := os.environ.get("FMGAN_DATA_DIR"):
        try:
            return read_folder(pathlib.Path(local).expanduser()), "the files in FMGAN_DATA_DIR"
        except DataError as error:
            fix = "Put the four files there, as .gz or unpacked, or unset FMGAN_DATA_DIR to fetch them."
            raise DataError(f"FMGAN_DATA_DIR: {error}. {fix}") from error
    failures = []
    for origin, get, place in (
        (f"Debian's installed package {PACKAGE}", read_folder, PACKAGE_FOLDER),
        ("the dataset's host", download, host),
        ("Keras's mirror", download, MIRROR),
        (f"Debian's package {PACKAGE}", fetch_package, PACKAGE),
    ):
        try:
            return get(place), origin
        except (OSError, http.client.HTTPException, DataError) as error:
            failures.append(f"{origin}: {error}")
    raise Nowhere(
        f"Fashion-MNIST was found nowhere ({'; '.join(failures)}). Try again later, or put the four files "
        f"{', '.join(FILES)}, as .gz or unpacked, in a folder and set FMGAN_DATA_DIR to it."
    )


def verified(content, name, path):
    """The content of a file, unpacked if need be; DataError if it is not what it should be."""
    size, digest = FILES[name]
    if content.startswith(b"\x1f\x8b"):  # its first bytes tell: browsers unpack files and keep their names
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(size + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is truncated or damaged ({error})") from error
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        length = f"{len(content):,}" if len(content) <= size else f"more than {size:,}"
        raise DataError(
            f"{path} is not Fashion-MNIST's: unpacked {length} bytes with SHA-256 {found}, expected {size:,} "
            f"with {digest}; truncated, or MNIST under the same name?"
        )
    return content


def read_folder(folder):
    """The four contents of a folder or of folders in it; where there are several of a name, any that fits."""
    contents = {}
    for name in FILES:
        pattern = name.replace("-idx", "?idx") + "*"  # train-images.idx3-ubyte is common as well
        problem = f"{folder / name}.gz is missing" if folder.is_dir() else f"{str(folder)!r} is not a folder"
        for path in [*sorted(folder.glob(pattern)), *sorted(folder.glob(f"*/{pattern}"))]:
            with contextlib.suppress(
                IsADirectoryError
            ):  # some archives have one of that name around each file
                try:
                    contents[name] = verified(path.read_bytes(), name, path)
                    break
                except DataError as error:
                    problem = error
        if name not in contents:
            raise DataError(problem)
    return contents


def download(base):
    """The four contents of a web address, the small ones first, which tell early if they are others. Watched
    from outside: DNS, silent addresses, and a byte now and then keep to no timeout of their own."""
    say(f"asking {base} ...")
    contents, outcome, received = {}, concurrent.futures.Future(), 0

    def run():
        nonlocal received
        try:
            for name, (size, _) in FILES.items():
                url, content = f"{base}/{name}.gz", b""
                with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:
                    while len(content) <= size and (part := response.read1(1 << 20)):
                        content += part
                        received += len(part)
                contents[name] = verified(content, name, url)
            outcome.set_result(contents)
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    start = time.monotonic()
    with tqdm(total=31e6, unit="B", unit_scale=True, desc="Fashion-MNIST", leave=False, disable=None) as bar:
        while True:
            with contextlib.suppress(concurrent.futures.TimeoutError):
                return outcome.result(0.1)
            bar.update(received - bar.n)
            seconds = time.monotonic() - start
            if seconds > CONNECT_SECONDS and not received:
                raise TimeoutError(f"no answer in {CONNECT_SECONDS} s")
            if seconds > PATIENCE_SECONDS and received < seconds * SLOWEST:
                raise TimeoutError(f"{received:,} bytes in {seconds:.0f} s, too slow")


def fetch_package(package):
    """The four contents of a Debian package that apt-get fetches, as any user, into a temporary folder: first
    with the system's package lists, then with new ones, for containers have none, and old ones mislead."""
    if not shutil.which("apt-get"):
        raise DataError("there is no apt-get on this machine")
    say(f"asking apt-get for the package {package} ...")
    end = time.monotonic() + APT_SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "lists").mkdir()
        settings = (
            f'Dir::Cache "{folder}"; APT::Sandbox::User "root"; Acquire::Retries "0";\n'
            f'Acquire::http::Timeout "{CONNECT_SECONDS}"; Acquire::https::Timeout "{CONNECT_SECONDS}";\n'
            '#clear APT::Update;\nAPT::Update::Error-Mode "any";\n'  # nothing that a system does after it
        )
        (folder / "apt.conf").write_text(settings)

        def run(*command):
            left = max(0, end - time.monotonic())
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=left)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"no result in {APT_SECONDS} s") from None
            return (done.stderr.strip() or "failed").splitlines()[0] if done.returncode else ""

        apt = ("apt-get", "-qq", "-c", "apt.conf")
        if run(*apt, "download", package):
            apt += ("-o", f"Dir::State::lists={folder / 'lists'}")
            unreachable = run(*apt, "update")  # maybe one of many servers: the download will tell
            if problem := run(*apt, "download", package):
                raise DataError(unreachable or problem)
        if problem := run("dpkg-deb", "-x", *folder.glob("*.deb"), "unpacked"):
            raise DataError(problem)
        return read_folder(folder / "unpacked" / PACKAGE_FOLDER.relative_to("/"))
