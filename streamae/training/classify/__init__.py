"""Name windows: an encoder that has read much without labels, and a classifier taught from few."""
