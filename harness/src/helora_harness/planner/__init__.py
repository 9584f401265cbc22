"""Holds the planner to its word: predicted times to measured ones, the chosen plan to every eligible one."""
