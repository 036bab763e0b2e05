"""`python -m towpath` is the `towpath` command."""

import sys

from towpath.cli import main

sys.exit(main())
