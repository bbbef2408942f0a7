"""The tests, and the commands that make tables, pictures and damaged files for them."""

import gc
import os

# Before any library reads it: tests run side by side, and threads do not survive the forks in some of them.
os.environ["OMP_NUM_THREADS"] = "1"
# What a fork inherits as garbage is the parent's to close: PySCF's own deletes its temporary files.
os.register_at_fork(after_in_child=gc.freeze)
