from __future__ import annotations

from sampan.oci.rootfs import options as opt


def test_the_later_of_two_words_wins() -> None:
    parsed = opt.parse_options(("ro", "rw", "nosuid"))
    assert (parsed.flags, parsed.clear) == (opt.MS_NOSUID, opt.MS_RDONLY)


def test_unknown_words_are_data_in_order() -> None:
    assert opt.parse_options(("size=1k", "nodev", "mode=755")).data == "size=1k,mode=755"


def test_a_bind_changes_only_what_is_named() -> None:
    assert opt.parse_options(("rbind",)).attributes() == (0, 0)
    assert opt.parse_options(("bind", "ro", "exec")).attributes() == (
        opt.ATTR_RDONLY,
        opt.ATTR_NOEXEC,
    )


def test_an_access_time_clears_the_others() -> None:
    parsed = opt.parse_options(("rnoatime",))
    assert (parsed.rec_set, parsed.rec_clear) == (opt.ATTR_NOATIME, opt.ATTR_ATIME)
