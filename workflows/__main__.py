"""`python -m workflows` is `slem`."""

from workflows.cli import main

main(prog_name="slem")
