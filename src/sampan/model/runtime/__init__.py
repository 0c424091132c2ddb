"""config.json of the OCI runtime-spec 1.3: a module a section, over the base in `struct`.

    spec.py        Spec Root Mount, read_spec parse_spec     process.py   Process User Capabilities
    linux.py       Linux Namespace IDMapping Device          resources.py Resources and controllers
    seccomp.py     Seccomp Syscall                           hooks.py     Hooks Hook
    struct.py      Struct (from_json, to_json, replace), SpecError
    defaults.py    default_spec(), capabilities, masked and read-only paths, mounts, devices
    defaults_seccomp.py   default_seccomp(capabilities): docker's default profile, decided anew

Nothing here imports more than the standard library's `json`; `oci` starts cold.
"""
