"""The tier that stores share: a bucket, or a folder, behind each machine's own store."""
