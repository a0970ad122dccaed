"""Map segmentation: IoU by BEVFusion's protocol."""
