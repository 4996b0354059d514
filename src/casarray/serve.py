"""The process that serves: `casarray run` becomes this, and leaves the libraries of the command line behind.

They are some 20 MB that a gateway would otherwise carry for as long as it lives.
"""

import sys

from casarray.main import serve

if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], as_json="--json" in sys.argv[2:]))
