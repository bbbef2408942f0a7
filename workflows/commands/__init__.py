"""The commands of the command line: their options, and what each hands to its neighbour in `workflows`."""
