#!/usr/bin/env bash
# For cron or systemd, where [schedule] enabled is false: merge the adapter into the weights, and wait until that is done.
# It waits for files that are being trained. Exit code: 0 done (or nothing to merge), 1 failed or cancelled, 69 no broker.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/trainq consolidate --wait "$@"
