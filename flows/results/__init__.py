"""The results of comparisons as one data set."""
