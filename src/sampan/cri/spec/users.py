"""Who the first process is: by number or name, and its groups by policy.

Source: KEP-3619; the lookup in the image's own files is `client.spec.users`.
"""

from __future__ import annotations

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.client.spec.users import resolve
from sampan.errors import InvalidArgument
from sampan.model.runtime.process import User

__all__ = ["user_of"]

_ID_MAX = (1 << 31) - 1


def user_of(security: pb.LinuxContainerSecurityContext, image_user: str, root_fd: int) -> User:
    """Return the ids of the first process.

    The primary group is also the first of the supplementary ones, so that a process cannot drop it
    to get around permissions that deny the group (CVE-2022-2995).

    Raises:
      InvalidArgument: a group without a user, a number out of range, or a name that the image's
        files do not have.
    """
    name = security.run_as_username
    has_uid = security.HasField("run_as_user")
    has_gid = security.HasField("run_as_group")
    if has_gid and not (has_uid or name):
        raise InvalidArgument("run_as_group needs run_as_user or run_as_username")
    if has_uid:
        text = str(_checked(security.run_as_user.value, "run_as_user"))
    else:
        text = name or image_user or "0"
    found = resolve(text, root_fd)
    login = resolve(text.partition(":")[0], root_fd)
    gid = _checked(security.run_as_group.value, "run_as_group") if has_gid else found.gid
    groups = [gid]
    if security.supplemental_groups_policy == pb.Merge:
        groups += [*([] if has_gid else [found.gid]), *login.additional_gids]
    groups += [_checked(one, "supplemental group") for one in security.supplemental_groups]
    return User(uid=found.uid, gid=gid, additional_gids=tuple(dict.fromkeys(groups)))


def _checked(value: int, what: str) -> int:
    if not 0 <= value <= _ID_MAX:
        raise InvalidArgument(f"{what} {value} is not between 0 and {_ID_MAX}")
    return value
