"""Set what every test needs before torch is imported."""

import os

from hypothesis import settings

# Threads that spin while they wait make small models many times slower where two runs share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A process per core is enough; more threads than that only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The time of an example says how busy the machine is.
settings.register_profile("any_speed", deadline=None)
settings.load_profile("any_speed")

pytest_plugins = [
    "support.extension_fixtures",
    "support.hostile_folder",
    "support.model_fixtures",
    "support.small_benchmark",
    "support.torch_defaults",
    "support.toy_predictor",
]
