"""The controllers of cgroup v2. Source: Documentation/admin-guide/cgroup-v2.rst."""
