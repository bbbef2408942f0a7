"""Networks, which learn what the baselines leave over: what a model asks of one, and SLEM."""
