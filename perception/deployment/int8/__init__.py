"""int8 networks: quantised layer by layer, as many layers as keep the scores."""
