"""The tests, and the commands that make tables, pictures and damaged files for them."""

import os

# Before any library reads it: tests run side by side, and threads do not survive the forks in some of them.
os.environ["OMP_NUM_THREADS"] = "1"
