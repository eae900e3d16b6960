"""For every test: one thread, since the networks are small; laws are tried on the same examples each time, untimed."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported

settings.register_profile("rapport", deadline=None, derandomize=True)
settings.load_profile("rapport")
