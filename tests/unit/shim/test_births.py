"""What requests mean: options of the runtime, and of a checkpoint."""

import pytest

from sampan.errors import Unimplemented
from sampan.rpc.messages import runc, task, types
from sampan.rpc.messages.wellknown import Any
from sampan.shim.births import checkpoint_wanted, options_of


def test_options_by_every_name_that_clients_use() -> None:
    wanted = runc.Options(binary_name="crun", root="/r")
    packed = Any.pack(wanted)
    assert options_of(packed) == wanted
    old = Any(type_url="containerd.linux.runc.v1.Options", value=packed.value)
    assert options_of(old) == wanted
    assert options_of(Any(type_url=f"types.containerd.io/{packed.type_url}", value=packed.value))
    assert options_of(None) == runc.Options()
    assert options_of(Any()) == runc.Options()
    assert options_of(Any.pack(types.Options())) == runc.Options()
    with pytest.raises(Unimplemented, match=r"windows\.Options"):
        options_of(Any(type_url="windows.Options"))


def test_a_checkpoint_leaves_the_container_running_unless_asked() -> None:
    wanted = checkpoint_wanted(task.CheckpointTaskRequest(id="c", path="/images"))
    assert (wanted.image_path, wanted.leave_running) == ("/images", True)
    options = Any.pack(
        runc.CheckpointOptions(
            exit=True, open_tcp=True, empty_namespaces=["network"], image_path="/other",
            work_path="/work", parent_path="../before", cgroups_mode="strict",
        )
    )  # fmt: skip
    wanted = checkpoint_wanted(task.CheckpointTaskRequest(id="c", path="/images", options=options))
    assert not wanted.leave_running
    assert wanted.tcp_established
    assert (wanted.image_path, wanted.work_path) == ("/other", "/work")
    assert (wanted.parent_path, wanted.empty_ns) == ("../before", ("network",))
    assert wanted.cgroups_mode == "strict"
