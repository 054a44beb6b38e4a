"""A common pool of tokens."""

import os

# Small matrices: threads of two processes that wait for each other cost a factor of 50.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
