"""Map segmentation from the LiDAR alone on the synthetic world."""
_base_ = ['../world/lidar.py']
tasks = ('map_segmentation',)
