"""The four-task model at full size.

ResNet-50 on 256 x 704 images, pillars of 0.2 m, a trunk of 128 x 128 cells of 0.8 m.

Where a number comes from: [B] BEVFusion (Liu et al. 2023, arXiv 2205.13542), [C] CenterPoint with pillars
(Yin et al. 2021, arXiv 2006.11275), [F] FlashOcc with ResNet-50 (Yu et al. 2023, arXiv 2311.12058), [O] Occ3D
(Tian et al. 2023, arXiv 2304.14365), [M] MapTRv2 (Liao et al. 2024, arXiv 2308.05736), [3] M3Net (AAAI 2025,
arXiv 2503.18100); each as its published configuration has it. What is ours says so.
"""
_x_m, _y_m = (-51.2, 51.2), (-51.2, 51.2)  # [B] [C]
# [B] map model: 0.4 m, halved once; [C] 0.2 m times 4
_grid = dict(type='BEVGrid', x_range_m=_x_m, y_range_m=_y_m, cell_m=0.8)
# ours ([B] [F] lift flat): a layer on the ground, finer near it
_voxel_grid = dict(type='BEVGrid', x_range_m=_x_m, y_range_m=_y_m, cell_m=0.8,
                   heights_m=(-0.4, 0.0, 0.4, 1.0, 2.0, 3.4))
# [B] +-50 m around the LiDAR, about 1 m before our origin
_map_grid = dict(type='BEVGrid', x_range_m=(-49.0, 51.0), y_range_m=(-50.0, 50.0), cell_m=0.5)
_pillar_grid = dict(type='BEVGrid', x_range_m=_x_m, y_range_m=_y_m, cell_m=0.2, z_range_m=(-3.2, 4.8))  # [C]
_width = 256
# voxels of each class that Occ3D's cameras see in training, as [F] counts them
_class_counts = (
    944004, 1897170, 152386, 2391677, 16957802, 724139, 189027, 2074468, 413451, 2384460, 5916653, 175883646,
    4275424, 51393615, 61411620, 105975596, 116424404, 1892500630)

model = dict(
    type='MultiTaskPerception',
    data_preprocessor=dict(type='BatchPreprocessor', non_blocking=True),
    encoders=dict(
        camera=dict(
            # [B]
            type='CameraEncoder',
            grid=_voxel_grid,
            in_channels=256,
            context_channels=80,
            out_channels=80,
            depth_bins=dict(type='DepthBins', low_m=1.0, high_m=60.0, count=118),  # [B] 1..60 m by 0.5
            # [F] the depth, recomputing
            backbone=dict(type='ResNet', depth=50, out_stages=(2, 3, 4), checkpoint=True),
            # [B] stride 8
            neck=dict(type='FPN', in_channels=(512, 1024, 2048), out_channels=256, out_levels=(0,)),
            lift=dict(slots=1, read='bilinear', heights=True),  # docs/view_transform.md
            refine_layers=1,  # [B] three convolutions behind the lift; ours two, without stride
            # [M], the loss of BEVDepth (Li et al. 2023, arXiv 2206.10092)
            depth=dict(loss_weight=3.0, loss_kind='binary'),
        ),
        lidar=dict(
            type='LidarEncoder',
            pillar_grid=_pillar_grid,
            grid=_grid,
            point_channels=(64, 64),
            max_points_per_pillar=20,  # [C]
            # [C] 4 and 6 convolutions of 64, 128; [B] 256 to the fuser
            channels=(64, 128),
            layers=(2, 3),
            out_channels=256,
            export_sizes=dict(points=320_000, pillars=60_000),  # [C] 60000 pillars when testing
        ),
    ),
    fuser=dict(type='ConcatFuser', in_channels=dict(camera=80, lidar=256), out_channels=_width),  # [B]
    trunk=dict(
        type='Trunk',
        in_channels=_width,
        out_channels=_width,
        channels=(128, 256),
        layers=(3, 3),
        strides=(1, 2),
        # [B] SECOND with 6 and 6 convolutions, FPN 256 + 256; joined to 256 is ours
        branch_channels=256,
    ),
    bridge=None,
    heads=dict(
        detection=dict(
            type='CenterHead',
            grid=_grid,
            in_channels=_width,
            shared_channels=64,  # [C] to the end of detection
            branches=dict(channels=64, separate=True, final_kernel=3),
            groups=(
                ('car',), ('truck', 'construction_vehicle'), ('bus', 'trailer'), ('barrier',),
                ('motorcycle', 'bicycle'), ('pedestrian', 'traffic_cone')),
            targets=dict(min_overlap=0.1, min_radius_cells=2),
            losses=dict(box=0.25),
            decoding=dict(max_boxes=500, score_threshold=0.1),
        ),
        map_segmentation=dict(
            type='MapSegmentationHead',  # [B]
            grid=_grid,
            in_channels=_width,
            task_grid=_map_grid,
            losses=dict(focal=6.0),  # [3] 40 against 6 for the heatmap
        ),
        occupancy=dict(
            type='OccupancyHead',
            grid=_grid,
            in_channels=_width,
            width=256,  # [F]
            layers=1,
            hidden=512,
            mask='camera',  # [F] [O]
            losses=dict(class_counts=_class_counts),  # [3] 1 / log(count), and four losses of weight 1
        ),
        lanes=dict(
            type='LaneHead',
            grid=_grid,
            in_channels=_width,
            classes=('divider', 'ped_crossing', 'boundary', 'centerline'),  # [M] with centerlines
            features=dict(
                x_range_m=(-29.0, 31.0),  # [M] +-30 m around the LiDAR, about 1 m before our origin
                width=256, cell_m=0.5),  # [M] 0.3 m; ours is nearer to the trunk's 0.8 m
            decoder=dict(instances=70, points=20, layers=6, heads=8, samples=4, feedforward=512),  # [M]
            targets=dict(auxiliary_repeats=6),  # [M] six to one, there with 300 instances of their own
        ),
    ),
)
