"""M3Net's shared decoder, Mamba form: scans over the map instead of attention, small.

After Chen et al. 2025, arXiv 2503.18100. Published: 6 blocks of VMamba with 16 states and inner width 2, no
cross-attention. Here: tokens of every fourth cell, 8 states.
"""
_base_ = ['m3net_transformer.py']

model = dict(bridge=dict(decoder=dict(variant='mamba', stride=4, states=8)))
