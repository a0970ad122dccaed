"""A training step at full size without a GPU: on torch's device `meta`, which has shapes and no values."""
