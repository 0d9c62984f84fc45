"""Is this installation in order?"""
