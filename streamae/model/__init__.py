"""The only door to torch: the network family, its artifact, its executors.

Libraries that torch brings along read their settings from the environment, once, when they are loaded; so they are
made here, where all who want torch pass by. What somebody has set stands.
"""

import os

# A thread of OpenMP that has nothing to do sleeps, and leaves the core to others, in place of spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# oneDNN keeps up to half a megabyte for each of this many products, batch sizes apart: a bound for what comes and goes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
