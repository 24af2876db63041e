#!/usr/bin/env bash
# For cron or systemd, where [schedule] enabled is false: apply the rules of retention and wait until that is done.
# Says what it did ("deleted N, freed X GB; ..."). Exit code: 0 done, 1 failed or cancelled, 69 no broker.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/trainq retention apply --wait "$@"
