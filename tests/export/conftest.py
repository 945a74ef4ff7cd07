"""Makes `networks.py`, which lies beside the tests, importable: tests are not packages here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
