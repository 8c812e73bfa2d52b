# Starts the real window on a virtual display of its own, with a home of its own, and gives the words that drive it by
# mouse and keyboard. Sourced by the scripts beside it, which set `octet` to the program, and `screen` to its pixels where
# they are not 1280x820.
# Needs Xvfb, xdotool, ImageMagick's `import`, and Mesa's OpenGL (Debian: xvfb xdotool imagemagick libgl1-mesa-dri libegl1
# libxkbcommon-x11-0).
home=$(mktemp -d)
export DISPLAY=":$((90 + RANDOM % 900))" LIBGL_ALWAYS_SOFTWARE=1 HOME="$home" XDG_DATA_HOME="$home"
export XDG_CONFIG_HOME="$home/config" XDG_CACHE_HOME="$home/cache"
project="$home/octet"

Xvfb "$DISPLAY" -screen 0 "${screen:-1280x820}x24" >/dev/null 2>&1 &
server=$!
window=
trap 'kill $window $server 2>/dev/null; wait 2>/dev/null; rm -rf "$home"' EXIT

fail() { echo "$0: $*" >&2; exit 1; }

# The window, once it is there.
start() {
    for _ in $(seq 60); do
        xdotool getdisplaygeometry >/dev/null 2>&1 && break
        sleep 0.5
    done
    "$octet" >"$home/out" 2>&1 &
    window=$!
    id=
    for _ in $(seq 120); do
        id=$(xdotool search --name '^Octet$' 2>/dev/null | head -1) && [ -n "$id" ] && break
        kill -0 "$window" 2>/dev/null || fail "the window did not open: $(tail -3 "$home/out")"
        sleep 0.5
    done
    [ -n "$id" ] || fail "the window did not open"
    # It can be there before it can be looked at.
    for _ in $(seq 60); do
        xdotool windowfocus "$id" 2>/dev/null && break
        sleep 0.5
    done
    sleep 2
}

stop() { kill "$window"; wait "$window" 2>/dev/null || true; window=; }

press() { xdotool key "$1"; sleep "${2:-1}"; }

# By the palette: what is typed finds it.
palette() {
    xdotool key ctrl+p
    sleep 1
    xdotool type --delay 30 "$1"
    sleep 1
    press Return "${2:-1}"
}

# How many runs are kept.
runs() { find "$project/runs" -name '*.json' 2>/dev/null | wc -l; }

# Waits for that many runs, at most so many seconds.
await_runs() {
    for _ in $(seq "$2"); do
        [ "$(runs)" -ge "$1" ] && return
        kill -0 "$window" 2>/dev/null || fail "the window is gone: $(tail -3 "$home/out")"
        sleep 1
    done
    fail "no run $1 after $2 seconds"
}

# Waits until the session in the project's folder says this of itself.
await_session() {
    for _ in $(seq "${2:-60}"); do
        grep -q "$1" "$project/session/session.json" 2>/dev/null && return
        sleep 1
    done
    fail "the session does not say $1 after ${2:-60} seconds"
}
