"""The flagship with MAFI in the place of concatenation (M3Net: Chen et al., AAAI 2025, arXiv 2503.18100).

Published there and taken over: maps of 80 (cameras) and 256 channels (LiDAR) to 256. Its single-task stage
has plain concatenation, which a new MAFI equals.
"""
_base_ = ['camera_lidar.py']
model = dict(fuser=dict(_delete_=True, type='MAFI', in_channels=dict(camera=80, lidar=256), out_channels=256))
