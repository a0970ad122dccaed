"""Four tasks from cameras and LiDAR on the synthetic world: the longer recipe (up to 90 minutes on two cores)."""
_base_ = ['_base_/runtime.py', '_base_/schedule_cosine.py', '_base_/data_world.py', '_base_/model_small.py']
