"""``python -m envelope``."""

import sys

from envelope.cli import main

sys.exit(main())
