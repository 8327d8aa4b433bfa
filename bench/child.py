"""`python -m bench.child MODULE PARAMS [CPU,CPU…]`: runs one peer; started by `bench.process`.

Calls `run(**PARAMS)` of the peer's module and prints what it returns as one line of JSON; a server
never returns. When something the peer imports isn't installed, says what, and exits with 77.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys

from bench.outcome import MissingError
from bench.process import EXIT_MISSING

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
INSTALL = {"greenpump": "-e .", "geventwebsocket": "gevent-websocket"}
"""What pip is told, where that isn't the name of the package."""


def main(module_name: str, params: str, cpus: str = "") -> int:
    # If the harness is killed, no server may stay behind on its core and spoil later figures.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        result = importlib.import_module(module_name).run(**json.loads(params))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "bench"):  # a fault of ours, not a library that isn't there
            raise
        return missing(package, f"pip install {INSTALL.get(package, package)}")
    except MissingError as error:
        return missing(error.what, error.install)
    print(json.dumps(result))
    return 0


def missing(what: str, install: str) -> int:
    print(json.dumps({"what": what, "install": install}))
    return EXIT_MISSING


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
