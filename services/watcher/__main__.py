"""``python -m services.watcher``."""

import sys

from services.watcher.app import serve
from trainq.service import run

sys.exit(run("watcher", serve))
