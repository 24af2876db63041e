"""``python -m services.trainer``."""

import sys

from services.trainer.app import serve
from trainq.service import run

sys.exit(run("trainer", serve))
