"""``python -m services.web``."""

import sys

from services.web.app import serve
from trainq.service import run

sys.exit(run("web", serve))
