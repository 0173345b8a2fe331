"""`python -m FluidFaaS run app.py --input …` and `… check app.py`."""

import sys

from .local.commands import main

sys.exit(main())
