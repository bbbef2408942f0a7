"""What a code is to the rest of the program: its record, what its modules must give, and what a run of it is."""
