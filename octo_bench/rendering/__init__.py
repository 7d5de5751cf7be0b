"""Drawing frames: cameras, meshes, OpenGL."""
