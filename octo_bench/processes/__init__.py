"""Starting processes: the only room that does so, and what interrupts, signals and locks need."""
