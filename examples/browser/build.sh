#!/usr/bin/env bash
# Builds the page into dist/: the WebAssembly module, the weights and the page itself. Needs cargo and the target wasm32-unknown-unknown.
set -euo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-target}
if command -v rustup >/dev/null; then rustup target add wasm32-unknown-unknown; fi
RUSTFLAGS="-D warnings -C target-feature=+simd128" cargo build --release --target wasm32-unknown-unknown --target-dir "$target"
mkdir -p dist
cp page/* digits.safetensors "$target/wasm32-unknown-unknown/release/pspikessm_browser.wasm" dist/
echo "python3 -m http.server --directory $PWD/dist 8000, and open http://localhost:8000"
