"""Files to samples and annotations; transforms, collation, corruptions and the synthetic world."""
from . import collate, dataset  # noqa: F401
