"""Files to samples and annotations: infos, the dataset, sensors, labels, batches, the order of samples."""
