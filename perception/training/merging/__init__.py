"""One model from several of single tasks that started from the same weights."""
