"""`python -m perception VERB ...` is the console command `perception VERB ...`."""
import sys

from .cli.commands import main

if __name__ == '__main__':
    sys.exit(main())
