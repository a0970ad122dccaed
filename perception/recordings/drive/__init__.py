"""A recording as a drive in nuScenes format: synchronised key frames, sweeps, poses, a report."""
