"""Starting an SCF: what it means for every code."""
