"""Set what every test needs before torch is imported."""

import os

# Threads that spin while they wait make small models many times slower where two runs share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
