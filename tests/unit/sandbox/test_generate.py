"""The synchronous face is what the generator writes, no more and no less."""

import inspect

from sampan.sandbox import box, generate, sync


def test_the_file_is_up_to_date() -> None:
    assert generate.main(["--check"]) == 0


def test_each_public_method_is_there() -> None:
    public = {
        name
        for name, value in vars(box.Sandbox).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    }
    ours = {"check_alive", "client", "container", "derive", "end_task", "folder", "forget"}
    ours |= {"mounts", "namespace", "pidfd", "process_spec", "run_task"}
    assert public - ours == {name for name in vars(sync.Sandbox) if not name.startswith("_")} - {
        "pid"
    }
