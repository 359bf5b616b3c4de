"""A store whose bytes are objects of an S3-compatible service; what this machine has of it is a cache."""
