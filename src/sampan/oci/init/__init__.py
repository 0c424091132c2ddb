"""The child's side of a birth. `steps` is the list, in the order of its system calls."""
