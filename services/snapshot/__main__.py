"""``python -m services.snapshot``."""

import sys

from services.snapshot.app import serve
from trainq.service import run

sys.exit(run("snapshot", serve))
