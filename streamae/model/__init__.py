"""The only door to torch: the network family, its artifact, its executors."""
