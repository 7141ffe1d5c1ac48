"""States of transformations: how they lie on a mesh, and how the state of one becomes that of another."""
