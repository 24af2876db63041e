"""``python -m trainq.cli``."""

import sys

from trainq.cli import main

sys.exit(main())
