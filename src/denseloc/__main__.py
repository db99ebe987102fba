"""``python -m denseloc``."""

import sys

from .cli import main

sys.exit(main())
