"""Results and summaries on disk; resuming a test."""
