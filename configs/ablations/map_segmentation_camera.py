"""Map segmentation from cameras alone on the synthetic world.

Cameras are lifted from features of stride 4. In training the LiDAR still tells the
depth network how far objects are.
"""
_base_ = ['../world/camera.py']
model = dict(encoders=dict(camera={{_base_._camera_stride_4}}))
tasks = ('map_segmentation',)
