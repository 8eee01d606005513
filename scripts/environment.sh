# Sourced by the other scripts: finds or makes the Python environment, and what a display needs on Debian.
# Sets PYTHON. Uses the virtual environment that is active; otherwise makes .venv beside this folder.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1

use_environment() { # use_environment [EXTRAS]
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        PYTHON=$VIRTUAL_ENV/bin/python
    else
        PYTHON=$root/.venv/bin/python
        if [ ! -x "$PYTHON" ]; then
            local base
            base=$(find_python) || exit 1
            "$base" -m venv "$root/.venv" || {
                echo "A virtual environment cannot be made. On Debian: apt-get install python3-venv" >&2
                exit 1
            }
        fi
    fi
    # Installing takes seconds where everything is there already, and a change of pyproject.toml is never missed.
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable ".${1:+[$1]}" || exit 1
}

find_python() {
    local name
    for name in python3.12 python3.11 python3.13 python3; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "Python 3.11, 3.12 or 3.13 is needed; TensorFlow has no package for others." >&2
    return 1
}

python_of_version() { # the Python of a version such as 3.12: on the PATH, or under pyenv
    local found
    for found in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1"*/bin/python; do
        if "$found" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            echo "$found"
            return
        fi
    done
    return 1
}

use_display() { # a screen for the tests that open a viewer: Xvfb, and the libraries that Qt and OpenGL load
    command -v xvfb-run >/dev/null && ldconfig -p 2>/dev/null | grep -q libxcb-cursor && return
    local packages="xvfb xauth libegl1 libgl1-mesa-dri libopengl0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4
        libxcb-image0 libxcb-keysyms1 libxcb-render-util0 libxcb-xinerama0 libxcb-shape0 libdbus-1-3"
    local become=""
    if ! command -v apt-get >/dev/null; then
        echo "note: no apt-get here; tests that open a viewer need a display with OpenGL." >&2
        return
    fi
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && become="sudo -n"; }
    # shellcheck disable=SC2086
    $become apt-get update -qq && $become env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null ||
        echo "note: these packages could not be installed: $packages" >&2
}
