"""Drawing frames: the two looks, cameras, meshes, OpenGL; `fast` draws without it."""
