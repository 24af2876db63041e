#!/usr/bin/env bash
# For cron or systemd, where [schedule] enabled is false: take a snapshot of the newest generation and wait for it.
# Exit code: 0 done, 1 failed or cancelled, 69 no broker.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/trainq snapshot create --wait "$@"
