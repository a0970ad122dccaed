"""MAFI in the place of concatenation, on the synthetic world.

After M3Net (Chen et al., AAAI 2025, arXiv 2503.18100).
"""
_base_ = ['camera_lidar.py']
model = dict(fuser=dict(_delete_=True, type='MAFI', in_channels=dict(camera=48, lidar=48), out_channels=64))
