"""Data sets of sampled, labeled pictures: planned in shards, made by any number of workers,
filtered and written in a format that others read."""
