r"""Four tasks from cameras and LiDAR on the synthetic world.

The base of the world's other configurations. `world/robust.py` is the longer recipe; this one is the same
with every sensor always there, in four epochs.

    python tools/make_world.py --out data/world --scenes 120 --key-frames 12 --seed 1 --image-size 225x400
    python tools/create_data.py nuscenes --root data/world --version v1.0-trainval \
        --lidar-sweeps 0 --radar-sweeps 0
    torchrun --standalone --nproc_per_node 2 tools/train.py configs/world/camera_lidar.py --launcher pytorch

Two processes of one thread with one sample each: on two cores that is faster than one process of two threads
with two.
"""
_base_ = [
    '../_base_/runtime.py', '../_base_/schedule_muon.py', '../_base_/data_world.py',
    '../_base_/model_small.py']
