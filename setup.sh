#!/usr/bin/env bash
# Installs the course and fetches its dataset. Run it as often as you like: what is done is not done again.
#   ./setup.sh            into .venv, which it makes
#   ./setup.sh --here     into the Python environment that is active
#   ./setup.sh --no-data  without the dataset
set -u

fail() {
    echo "setup.sh: $1" >&2
    exit 1
}

here=no
data=yes
for option in "$@"; do
    case "$option" in
        --here) here=yes ;;
        --no-data) data=no ;;
        *) echo "setup.sh: no option '$option'; there are --here and --no-data" >&2; exit 2 ;;
    esac
done
system=$(uname -s)
case "$system" in
    MINGW* | MSYS* | CYGWIN*) fail "this is $system; the course needs Linux, macOS, or WSL on Windows. Run this in WSL." ;;
esac
called_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

# 1. A Python that TensorFlow supports.
supports() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}
if [ "$here" = yes ]; then
    candidates=(python3 python)
elif [ -x .venv/bin/python ]; then
    candidates=("$PWD/.venv/bin/python")
else
    candidates=(python3 python3.13 python3.12 python3.11 python3.10 python)
fi
python=""
for candidate in "${candidates[@]}"; do
    if supports "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    found=$("${candidates[0]}" --version 2>&1 | head -n 1)
    fail "TensorFlow needs Python 3.10 to 3.13, found: ${found:-none}. Install one of them, remove .venv if there is one, and run this again."
fi

# 2. The environment.
if [ "$here" = no ]; then
    if [ ! -x .venv/bin/python ]; then
        echo "Making .venv with $("$python" --version)"
        problem=$("$python" -m venv .venv 2>&1) || {
            rm -rf .venv
            case "$problem" in
                *ensurepip*) fail "this Python cannot make environments. On Debian and Ubuntu: apt install python3-venv" ;;
                *"No space left"*) fail "the disk is full; the installation takes 3 GB. Free some and run this again." ;;
                *) fail "could not make .venv: $(echo "$problem" | tail -n 1)" ;;
            esac
        }
    fi
    python=$PWD/.venv/bin/python
fi

# 3. The packages. The mark remembers what was installed, so that a second run has nothing to do.
mark=$("$python" -c 'import sys; print(sys.prefix)')/.fmgan-installed
wanted="$PWD $(cat requirements.txt pyproject.toml | cksum)"
if [ "$(head -n 1 "$mark" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing the packages of requirements.txt: some minutes, 3 GB of disk"
    log=$(mktemp) || fail "the disk is full; the installation takes 3 GB. Free some and run this again."
    trap 'rm -f "$log"' EXIT
    "$python" -m pip install --progress-bar off -r requirements.txt -e . 2>&1 | tee "$log" | grep --line-buffered -E '^ *(Downloading|Installing|Building)'
    if [ "${PIPESTATUS[0]}" -ne 0 ]; then
        if grep -q "No space left" "$log"; then
            fail "the disk is full; the installation takes 3 GB. Free some and run this again."
        elif grep -qE "NewConnectionError|NameResolutionError|Could not find a version|ProxyError|ConnectTimeout" "$log"; then
            fail "the package index cannot be reached, or has no fitting package: $(grep -E '^ERROR' "$log" | head -n 1). Check the network and run this again."
        fi
        fail "pip failed: $(grep -iE 'error' "$log" | tail -n 1)"
    fi
    echo "$wanted" >"$mark"
fi

# 4. The dataset. Its second line in the mark is the folder that TFDS prepared it in.
if [ "$data" = yes ] && [ ! -d "$(sed -n 2p "$mark")" ]; then
    if folder=$("$python" -m fmgan_tf data); then
        case "$folder" in
            */fmgan_stand_in) # stays out of the mark, so that the next run tries to get the real ones again
                echo "setup.sh: everything is installed, but the dataset is missing, see above. Generated images stand in for it: all commands work, their figures mean nothing. Run this again once it can be had." >&2
                ;;
            *)
                printf '%s\n%s\n' "$wanted" "$folder" >"$mark"
                echo "Fashion-MNIST is verified and prepared in $folder"
                ;;
        esac
    else
        echo "setup.sh: everything is installed, but the dataset is missing; see the line above." >&2
    fi
fi

# 5. What next.
prefix="$python -m"
[ "$here" = yes ] && prefix="python3 -m"
[ "$here" = no ] && [ "$called_from" = "$PWD" ] && prefix=".venv/bin/python -m"
echo "Ready. Train your first GAN (three minutes):"
echo "  $prefix fmgan_tf train"
