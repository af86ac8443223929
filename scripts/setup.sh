#!/usr/bin/env bash
# Makes a virtual environment from a lock file. Run again, it is done at once when nothing changed.
#
#   scripts/setup.sh         .venv, which everything but OpenCompass runs in
#   scripts/setup.sh eval    .venv-eval, OpenCompass's own environment
#
# PYTHON=python3.11          the interpreter to build on
# AUTOALIGN_STACK=cpu|gpu    instead of asking nvidia-smi
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 is needed and was not found (looked for: ${PYTHON:-python3.11 python3 python3.12 python3.13})." \
        "Debian and Ubuntu: apt-get install python3 python3-pip; then run this again, or name one: PYTHON=/path/to/python3.11 make setup"
}

find_stack() {
    if [[ -n "${AUTOALIGN_STACK:-}" ]]; then
        echo "$AUTOALIGN_STACK"
    elif nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
        echo gpu
    else
        echo cpu
    fi
}

# Debian ships venv without ensurepip (package python3-venv); pip can fill the gap from outside.
make_venv() {
    local python="$1" venv="$2"
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv "$venv"
        return
    fi
    "$python" -m pip --version >/dev/null 2>&1 ||
        die "$python has neither ensurepip nor pip. Debian and Ubuntu: apt-get install python3-pip"
    "$python" -m venv --without-pip "$venv"
    "$python" -m pip --python "$venv/bin/python" install --quiet pip
}

# One line for each 20 packages, or one line rewritten in place on a terminal; the whole log on failure.
show_progress() {
    local total="$1" log="$2" terminal=0
    [[ -t 1 ]] && terminal=1
    awk -v total="$total" -v log_file="$log" -v terminal="$terminal" '
        { print > log_file }
        /^ *Downloading / { size = $0; sub(/.*\(/, "(", size) }
        /^(Collecting|Requirement already satisfied:) / {
            name = ($1 == "Collecting") ? $2 : $4
            count++
            if (terminal) printf "\r\033[K  [%d/%d] %s", count, total, name
            else if (count % 20 == 0) printf "  [%d/%d] %s\n", count, total, name
            fflush()
        }
        /^Installing collected packages/ {
            printf "%s  writing the packages into the environment (a minute or two)\n", terminal ? "\r\033[K" : ""
            fflush()
        }'
}

install_lock() {
    local venv="$1" lock="$2" log="$1/setup.log" total
    total="$(grep -cE '^[A-Za-z0-9]' "$lock")"
    echo "setup: installing the $total packages of $lock into $venv"
    if ! "$venv/bin/python" -m pip install --no-deps --progress-bar off --disable-pip-version-check \
        --requirement "$lock" 2>&1 | show_progress "$total" "$log"; then
        tail -n 25 "$log" >&2
        die "pip failed; the whole log is in $log. Run the same command again to start over."
    fi
}

# PyPI's torch is a CUDA build, which does not import without CUDA's libraries.
need_cpu_torch() {
    local venv="$1" lock="$2" pin found
    pin="$(grep -E '^torch==' "$lock")"
    found="$("$venv/bin/python" -m pip install --dry-run --ignore-installed --no-deps --quiet --report - "$pin" 2>/dev/null || true)"
    grep -q '"version": "[0-9.]*+cpu"' <<<"$found" ||
        die "pip is offered no CPU build of $pin: PyTorch keeps those in an index of its own, whose address stands on" \
            "its page 'Get Started' (choose Linux, Pip, CPU). Then: export PIP_EXTRA_INDEX_URL=ADDRESS; make setup"
}

# vLLM for CPU links libnuma, which minimal Debian images leave out.
need_libnuma() {
    "$1/bin/python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null && return
    if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
        echo "setup: installing the system library libnuma1, which vLLM links"
        { apt-get install -y -qq libnuma1 || { apt-get update -qq; apt-get install -y -qq libnuma1; }; } \
            </dev/null >"$1/apt.log" 2>&1 && return
    fi
    echo "setup: note: libnuma.so.1 is missing, and vLLM does not start without it. As root: apt-get install libnuma1" >&2
}

install() {
    local venv="$1" lock="$2" stack="$3" python="$4"
    if [[ -e "$venv/.unfinished" ]] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$venv"
        make_venv "$python" "$venv"
    fi
    touch "$venv/.unfinished"
    rm -f "$venv/.installed"
    [[ "$stack" == gpu ]] || need_cpu_torch "$venv" "$lock"
    install_lock "$venv" "$lock"
    if [[ "$stack" == cpu ]]; then
        # Their CUDA builds break transformers on a machine without CUDA, if an older set-up left them here.
        "$venv/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null
    fi
    [[ "$lock" != requirements/cpu.lock ]] || need_libnuma "$venv"
    PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation \
        --disable-pip-version-check --editable .
    rm -f "$venv/.unfinished"
}

main() {
    local kind="${1:-main}" python stack venv=.venv lock stamp
    python="$(find_python)"
    stack="$(find_stack)"
    lock="requirements/$stack.lock"
    if [[ "$kind" == eval ]]; then
        venv=.venv-eval lock=requirements/eval-cpu.lock stack=cpu
    fi
    [[ -f "$lock" ]] || die "no such lock file: $lock"
    command -v gcc >/dev/null || die "gcc is needed and was not found. Debian and Ubuntu: apt-get install gcc"
    stamp="$(cat "$lock" pyproject.toml scripts/setup.sh <("$python" --version) | sha256sum | cut -d' ' -f1)"
    if [[ "$(cat "$venv/.installed" 2>/dev/null)" == "$stamp" && -x "$venv/bin/autoalign-cli" ]]; then
        echo "setup: $venv is up to date ($lock)"
        return
    fi
    local begun=$SECONDS
    install "$venv" "$lock" "$stack" "$python"
    echo "$stamp" >"$venv/.installed"
    echo "setup: $venv is ready after $((SECONDS - begun)) s ($lock)"
}

main "$@"
