"""Where a training stands: loops that begin anywhere, checkpoints that hold all of it, resuming."""
