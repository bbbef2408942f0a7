"""Work on several processes and machines: engines, torchrun, and predictions in pieces."""
