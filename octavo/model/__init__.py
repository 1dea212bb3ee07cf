"""The model: its mathematics and its weight names, once, for training, CPU and GPU."""
