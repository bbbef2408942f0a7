"""ASE's door: calculators that learn from each calculation and start the next one from a prediction."""
