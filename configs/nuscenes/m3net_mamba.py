"""M3Net on nuScenes at full size, Mamba form (Chen et al., AAAI 2025, arXiv 2503.18100).

Published (its released configuration) and taken over: 6 blocks that scan the map on four paths, 16 states,
inner width twice the map's, no cross-attention, occupancy losses of 1.2. Its drop path of 0.2 is left out.
"""
_base_ = ['m3net_transformer.py']
_weight = 1.2 / 6
model = dict(
    bridge=dict(decoder=dict(variant='mamba', states=16)),
    heads=dict(occupancy=dict(losses=dict(
        cross_entropy=_weight, lovasz=_weight, semantic_affinity=_weight, geometric_affinity=_weight))))
