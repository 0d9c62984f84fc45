"""The page's figures, one a file: each draws a pair's data, or says that they are missing."""
