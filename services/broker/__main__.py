"""``python -m services.broker``."""

import sys

from services.broker.app import serve
from trainq.service import run

sys.exit(run("broker", serve))
