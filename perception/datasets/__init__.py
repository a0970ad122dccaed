"""Files to samples and annotations; transforms, collation, corruptions and the synthetic world."""
