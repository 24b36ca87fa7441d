"""`python -m dafw.run method=dann src=cifar10 tgt=stl10`."""

import sys

from dafw.cli import main

if __name__ == "__main__":
    sys.exit(main())
