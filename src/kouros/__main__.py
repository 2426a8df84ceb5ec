"""``python -m kouros`` is the command ``kouros``."""

import sys

from kouros.cli import main

if __name__ == "__main__":
    sys.exit(main())
