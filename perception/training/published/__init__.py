"""Published checkpoints: which of their tensors become which of ours."""
