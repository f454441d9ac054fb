#!/usr/bin/env bash
# Installs the course and fetches its dataset. Run it as often as you like: what is done is not done again.
#   ./setup.sh            into .venv, which it makes
#   ./setup.sh --here     into the Python environment that is active
#   ./setup.sh --no-data  without the dataset
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # `sh setup.sh` is as good
set -u

fail() {
    echo "setup.sh: $1" >&2
    exit "${2:-1}"
}
full="the disk is full; the installation takes 3 GB. Free some and run this again."

here=no
data=yes
for option in "$@"; do
    case "$option" in
        --here) here=yes ;;
        --no-data) data=no ;;
        *) fail "no option '$option'; there are --here and --no-data" 2 ;;
    esac
done
system=$(uname -s)
case "$system" in
    Darwin) [ "$(uname -m)" = x86_64 ] && fail "TensorFlow has no release for Macs with an Intel processor any more; use Apple silicon, Linux or Colab." ;;
    MINGW* | MSYS* | CYGWIN*) fail "this is $system; the course needs Linux, macOS, or WSL on Windows. Run this in WSL." ;;
esac
called_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

# 1. A Python that TensorFlow supports, and an environment. Its programs know their folder by its full path.
if [ "$here" = no ] && [ -e .venv/bin/activate ] && ! grep -qF "$(pwd -P)/.venv" .venv/bin/activate; then
    echo "Python: .venv was made in another folder, making it anew"
    rm -rf .venv
fi
if [ "$here" = yes ]; then
    candidates=(python3 python)
elif [ -x .venv/bin/python ]; then
    candidates=("$PWD/.venv/bin/python")
else
    candidates=(python3 python3.13 python3.12 python3.11 python3.10 python)
fi
python=""
for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    found=$("${candidates[0]}" --version 2>&1 | head -n 1)
    fail "TensorFlow needs Python 3.10 to 3.13, found: ${found:-none}. Install one of them, remove .venv if there is one, and run this again."
fi
if [ "$here" = no ]; then
    if [ ! -x .venv/bin/python ]; then
        echo "Python: making .venv with $("$python" --version)"
        problem=$("$python" -m venv .venv 2>&1) || {
            rm -rf .venv
            case "$problem" in
                *ensurepip*) fail "this Python cannot make environments. On Debian and Ubuntu: apt install python3-venv" ;;
                *"No space left"*) fail "$full" ;;
            esac
            fail "could not make .venv: $(tail -n 1 <<<"$problem")"
        }
    fi
    python=$PWD/.venv/bin/python
fi

# 2. The packages. The mark remembers what was installed, so that a second run has nothing to do.
progress() { # of pip: a line for every 25 packages, and for what takes long
    found=0
    while read -r line; do
        case "$line" in
            Collecting*) [ $(( (found += 1) % 25 )) -eq 0 ] && echo "  $found packages found" ;;
            Downloading*[0-9][0-9][0-9].[0-9]" MB)") echo "  ${line%%-*} (${line##*(}" ;;
            "Installing collected"*) echo "  Unpacking $(($(wc -w <<<"$line") - 3)) packages, a minute or two" ;;
        esac
    done
}
mark=$("$python" -c 'import sys; print(sys.prefix)')/.fmgan-installed
wanted="$PWD $(cat requirements.txt pyproject.toml | cksum)"
if [ "$(head -n 1 "$mark" 2>/dev/null)" != "$wanted" ]; then
    echo "Packages: installing those of requirements.txt, some minutes, 3 GB of disk"
    log=$(mktemp) || fail "$full"
    trap 'rm -f "$log"' EXIT
    "$python" -m pip install --progress-bar off -r requirements.txt -e . 2>&1 | tee "$log" | progress
    if [ "${PIPESTATUS[0]}" -ne 0 ]; then
        grep -q "No space left" "$log" && fail "$full"
        grep -qE "NewConnectionError|NameResolutionError|Could not find a version|ProxyError|ConnectTimeout" "$log" &&
            fail "the package index cannot be reached, or has no fitting package: $(grep -om 1 'ERROR: .*' "$log"). Check the network and run this again."
        grep -q "externally-managed-environment" "$log" &&
            fail "this Python belongs to the system, which does not want packages in it: run ./setup.sh without --here, which makes .venv."
        grep -q "No module named pip" "$log" &&
            fail "$python has no pip: remove .venv and run this again, or for --here install pip."
        problem=$(grep -i 'error' "$log" | tail -n 1)
        fail "pip failed: ${problem:-$(tail -n 1 "$log")}"
    fi
    echo "$wanted" >"$mark"
    echo "Packages: installed"
fi

# 3. The dataset. The second line of the mark is the folder that it was prepared in.
if [ "$data" = yes ] && [ ! -d "$(sed -n 2p "$mark")" ]; then
    echo "Dataset: looking for Fashion-MNIST, 31 MB"
    if ! folder=$("$python" -m fmgan_tf data); then
        echo "setup.sh: everything is installed, but the dataset is missing; see the line above." >&2
    elif [ "${folder##*/}" = fmgan_stand_in ]; then # stays out of the mark: the next run looks for the real one
        echo "setup.sh: everything is installed, but the dataset is missing, see above. Generated images stand in for it: all commands work, their figures mean nothing. Run this again once it is available." >&2
    else
        printf '%s\n%s\n' "$wanted" "$folder" >"$mark"
        echo "Dataset: verified and prepared in $folder"
    fi
fi

# 4. What next.
[ "$here" = no ] && [ "$called_from" = "$PWD" ] && python=.venv/bin/python
[ "$here" = yes ] && python=python3
printf 'Ready. Train your first GAN (three minutes):\n  %q -m fmgan_tf train\n' "$python"
