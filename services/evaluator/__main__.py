"""``python -m services.evaluator``."""

import sys

from services.evaluator.app import serve
from trainq.service import run

sys.exit(run("evaluator", serve))
