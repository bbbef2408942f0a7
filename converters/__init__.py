"""The data: frames, the dataset file, the physical checks, and one module per DFT code that reads and writes."""
