"""Reports: what many stored traces cost, added up where they are, by whatever one asks."""
