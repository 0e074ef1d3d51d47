"""Deleting stored traces so that nothing is left: what is found, what goes, what stays and why, and a receipt of it."""
