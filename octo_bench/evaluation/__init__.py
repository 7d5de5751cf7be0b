"""Rolling policies out and recording what happened."""
