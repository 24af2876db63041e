"""``python -m services.consolidator``."""

import sys

from services.consolidator.app import serve
from trainq.service import run

sys.exit(run("consolidator", serve))
