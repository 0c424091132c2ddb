"""What containerd and its shims say to one another, a module for each package of .proto files."""
