"""``python -m services.datagen``."""

import sys

from services.datagen.app import serve
from trainq.service import run

sys.exit(run("datagen", serve))
