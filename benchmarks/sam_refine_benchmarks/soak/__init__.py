"""A long run in which everything goes wrong: is an answer wrong or lost, does memory grow?"""
