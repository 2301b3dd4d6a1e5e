#!/usr/bin/env bash
# Draws on the built page in headless Chromium and fails where it does not read the digit: test.sh [FOLDER for screenshots].
# Needs python3, node from 20 on, and Chromium (Debian: apt-get install --no-install-recommends chromium), or CHROMIUM=path.
set -euo pipefail
cd "$(dirname "$0")"
[ -f dist/index.html ] || ./build.sh
export CHROMIUM="${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}"
exec node --no-warnings --experimental-websocket test.mjs "$@"
