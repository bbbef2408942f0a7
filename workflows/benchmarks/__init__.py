"""What `slem-bench` measures; nothing that users run depends on it."""
