"""M3Net on nuScenes at full size, Mamba form (Chen et al., AAAI 2025, arXiv 2503.18100).

Published (its released configuration) and taken over: 6 blocks that scan the map on four paths, 16 states,
inner width twice the map's, no cross-attention, occupancy losses of 1.2. Its drop path of 0.2 is left out.
"""
_base_ = ['m3net_transformer.py']
_share = 1.2 / 6
model = dict(
    bridge=dict(variant='mamba', states=16),
    heads=dict(occupancy=dict(loss_weights=dict(cross_entropy=_share, lovasz=_share, semantic_affinity=_share,
                                                geometric_affinity=_share))))
