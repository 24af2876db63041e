"""``python -m services.status``."""

import sys

from services.status.app import serve
from trainq.service import run

sys.exit(run("status", serve))
