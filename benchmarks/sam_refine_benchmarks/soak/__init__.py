"""A long run in which everything goes wrong that can: is any answer wrong, or lost?"""
