"""`python -m backendhealth`."""

import sys

from backendhealth.cli.main import main

sys.exit(main())
