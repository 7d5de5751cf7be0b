"""octo-bench: how well an Octo policy does on a robot it has not seen."""

from octo_bench.simulation.graphics import choose_backend
from octo_bench.simulation.registration import register

__version__ = "0.1.0"

choose_backend()
register()
