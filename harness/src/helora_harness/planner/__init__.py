"""Checks the planner: predicted times against measured ones, the chosen plan against every eligible one."""
