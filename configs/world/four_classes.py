"""Boxes of other classes than nuScenes' ten: merged ones, and things that the ten leave out. LiDAR alone.

    python tools/train.py configs/world/four_classes.py

`detection_classes` is all that differs; labels, sampling, head, metric, drawing, tracking and export follow
it (docs/configurations.md, "Other classes of boxes").
"""
_base_ = ['lidar.py']
tasks = ('detection',)
detection_classes = dict(
    vehicle=dict(
        categories=(
            'vehicle.car', 'vehicle.truck', 'vehicle.bus.bendy', 'vehicle.bus.rigid', 'vehicle.trailer',
            'vehicle.construction', 'vehicle.emergency.ambulance', 'vehicle.emergency.police'),
        attributes=('vehicle',)),
    two_wheeler=dict(
        categories=('vehicle.motorcycle', 'vehicle.bicycle'), attributes=('cycle',), range_m=40.0,
        nms_radius_m=0.92, gate_m=13.0),
    pedestrian=dict(
        categories=(
            'human.pedestrian.adult', 'human.pedestrian.child', 'human.pedestrian.construction_worker',
            'human.pedestrian.police_officer', 'human.pedestrian.stroller', 'human.pedestrian.wheelchair',
            'human.pedestrian.personal_mobility'),
        attributes=('pedestrian',), range_m=40.0, crowded=True, nms_radius_m=0.42, gate_m=1.0),
    static=dict(
        categories=(
            'movable_object.barrier', 'movable_object.trafficcone', 'movable_object.debris',
            'movable_object.pushable_pullable'),
        range_m=30.0, heading='half', moves=False, tracked=False, crowded=True, nms_radius_m=0.5, gate_m=1.0))
