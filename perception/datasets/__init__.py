"""Files to samples and annotations; transforms, collation, corruptions and the synthetic world."""
from . import collate  # noqa: F401
