"""nuScenes detection: mAP, NDS and the true-positive errors."""
