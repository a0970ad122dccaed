"""Files to samples and annotations; transforms, collation, corruptions and the synthetic world."""
from . import collate, corruptions, dataset, sampler, transforms_bev, transforms_image, transforms_sensor  # noqa: F401
