#!/usr/bin/env bash
# Installs the JavaScript client into the folder given, from the lock file:
#   ./install.sh FOLDER
# The lock file names versions and their hashes, and no addresses: npm asks
# whatever registry it is configured for.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cp "$here/package.json" "$here/package-lock.json" "$here/client.js" "$1/"
cd "$1"
npm ci --omit=dev --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved
