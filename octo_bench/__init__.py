"""octo-bench: how well an Octo policy does on a robot it has not seen."""

import logging

from octo_bench.portability.pinning import pin_instruction_set

pin_instruction_set()  # before anything that follows loads NumPy

# ruff: noqa: E402
from octo_bench.rendering.graphics import choose_backend
from octo_bench.rendering.triton_import import shield_triton
from octo_bench.simulation.registration import register
from octo_bench.thread_waiting import wait_without_spinning

__version__ = "0.1.0"

wait_without_spinning()
choose_backend()
shield_triton()
register()
# A filter, which stays when robosuite sets its logger up: it warns of what is not used here.
logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
