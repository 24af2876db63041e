"""``python -m services.preparer``."""

import sys

from services.preparer.app import serve
from trainq.service import run

sys.exit(run("preparer", serve))
