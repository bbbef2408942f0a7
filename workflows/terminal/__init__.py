"""What people read on a terminal: tables, bars, and what to do about an error."""
