"""Training: parameter groups, optimiser, losses, recipe, loop, resumable checkpoints."""
