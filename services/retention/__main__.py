"""``python -m services.retention``."""

import sys

from services.retention.app import serve
from trainq.service import run

sys.exit(run("retention", serve))
