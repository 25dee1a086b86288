"""What rsync is told: endpoints come from other nodes and may be attacks."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.settings import RsyncSettings
from fleetcast.transport.protocol import Source
from fleetcast.transport.rsync import plan
from fleetcast.transport.testing import thing_of

SETTINGS = RsyncSettings()
PIECE = 16 * 1024


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("ssh://fleetcast@10.0.0.7:2222", plan.Remote("10.0.0.7", 2222, user="fleetcast")),
        ("ssh://fleetcast@gpu-1", plan.Remote("gpu-1", 22, user="fleetcast")),
        ("ssh://fleetcast@[fd00::7]:22", plan.Remote("fd00::7", 22, user="fleetcast")),
        ("rsync://127.0.0.1:8730/store", plan.Remote("127.0.0.1", 8730, module="store")),
    ],
)
def test_endpoints_are_read(endpoint: str, expected: plan.Remote) -> None:
    assert plan.remote(endpoint) == expected


def test_paths_begin_where_rsync_looks_for_them() -> None:
    assert plan.Remote("fd00::7", 22, user="fleetcast").root == "[fd00::7]:"
    assert plan.Remote("gpu-1", 22, user="fleetcast").root == "gpu-1:"
    assert plan.Remote("fd00::7", 873, module="store").root == "rsync://[fd00::7]:873/store/"


@pytest.mark.parametrize(
    "endpoint",
    [
        "ssh://-oProxyCommand=id@host:22",
        "ssh://fleetcast@-oProxyCommand=id:22",
        "ssh://fleetcast@host:22/etc",
        "ssh://host:22",
        "ssh://a b@host:22",
        "ssh://fleetcast@host name:22",
        "ssh://fleetcast@host:99999",
        "rsync://host:873/../etc",
        "rsync://host:873/a/b",
        "rsync://user@host:873/store",
        "rsync://host:873/",
        "http://host/x",
        "",
    ],
)
def test_an_endpoint_that_would_be_an_option_or_a_path_is_refused(endpoint: str) -> None:
    assert plan.remote(endpoint) is None


@given(st.text(max_size=80))
def test_no_endpoint_puts_a_word_of_its_own_before_ssh_or_rsync(text: str) -> None:
    for endpoint in (f"ssh://{text}", f"rsync://{text}"):
        where = plan.remote(endpoint)
        if where is not None:
            assert not where.root.startswith("-")
            assert where.root.split() == [where.root]
            assert where.user is None or (where.user.isascii() and not where.user.startswith("-"))


def test_modules_and_incomplete_nodes_are_no_sources() -> None:
    module = Source("n1", rsync="rsync://h:873/store", complete=True)
    assert not plan.usable(module, SETTINGS)
    assert plan.usable(module, RsyncSettings(modules=True))
    assert not plan.usable(Source("n1", rsync="ssh://u@h:22", complete=False), SETTINGS)
    assert plan.usable(Source("n1", rsync="ssh://u@h:22", complete=True), SETTINGS)


def test_only_what_is_missing_becomes_a_job_and_equal_files_share_one() -> None:
    thing = thing_of({"a": b"1" * PIECE * 2, "b": b"2" * PIECE * 2, "c": b"1" * PIECE * 2}, PIECE)
    content = thing.content

    whole = plan.jobs(content, {}, PIECE, SETTINGS)
    assert sorted(job.places for job in whole) == [(0, 2), (1,)]
    assert not any(job.delta for job in whole)

    begun = plan.jobs(content, {0: {0, 1}, 1: {1}}, PIECE, SETTINGS)
    assert sorted((job.places, job.delta) for job in begun) == [((1,), True), ((2,), False)]
    assert plan.jobs(content, {0: {0, 1}, 1: {0, 1}, 2: {0, 1}}, PIECE, SETTINGS) == ()


def test_a_file_above_the_limit_is_fetched_whole() -> None:
    thing = thing_of({"a": b"1" * PIECE * 2}, PIECE)
    (job,) = plan.jobs(thing.content, {0: {0}}, PIECE, RsyncSettings(delta_limit_bytes=PIECE))
    assert not job.delta


def words_for(settings: RsyncSettings, *, delta: bool, where: plan.Remote) -> list[str]:
    work = [plan.Job("ab" * 32, 1000, (0,), delta)]
    return plan.command("rsync", where, work, Path("/d/staging/x"), settings, piece_length=PIECE)


def test_the_command_takes_plain_files_of_the_promised_size_only() -> None:
    words = words_for(SETTINGS, delta=False, where=plan.Remote("h", 22, user="u"))

    assert {"--no-links", "--no-devices", "--no-specials", "--max-size=1000", "--whole-file"} <= set(words)
    assert words[-2:] == ["h:", "/d/staging/x/new/"]


def test_the_delta_method_compares_with_the_basis_in_blocks_of_pieces() -> None:
    words = words_for(SETTINGS, delta=True, where=plan.Remote("h", 873, module="store"))

    assert {"--no-whole-file", f"--block-size={PIECE}", "--copy-dest=/d/staging/x/basis"} <= set(words)
    assert "-e" not in words


def test_ssh_never_asks_and_trusts_known_hosts_only() -> None:
    settings = RsyncSettings(identity=Path("/keys/it's mine"), known_hosts=Path("/keys/hosts"))
    words = words_for(settings, delta=False, where=plan.Remote("h", 2222, user="u"))
    shell = as_rsync_splits(words[words.index("-e") + 1])

    assert shell[:3] == ["ssh", "-F", "none"]
    assert shell[shell.index("-i") + 1] == "/keys/it's mine"
    for option in (
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/keys/hosts",
        "IdentitiesOnly=yes",
    ):
        assert option in shell


HANDOVER = ("/usr/bin/python3", "-I", "/d/it's 100 % mine/handover.py", '/d/st "aging"', "door")


def test_ssh_hands_over_by_the_words_given_whatever_is_in_them() -> None:
    """Three read them: rsync, ssh with its % tokens, and a shell."""
    words = plan.command(
        *("rsync", plan.Remote("h", 2222, user="u"), [plan.Job("ab" * 32, 1000, (0,), delta=False)]),
        *(Path("/d"), SETTINGS),
        piece_length=PIECE,
        handover=HANDOVER,
    )
    shell = as_rsync_splits(words[words.index("-e") + 1])
    (proxy,) = [word.removeprefix("ProxyCommand=") for word in shell if word.startswith("ProxyCommand=")]

    assert "ProxyUseFdpass=yes" in shell
    assert shell[shell.index("-p") + 1] == "2222"
    assert "%" not in proxy.replace("%%", "")
    assert shlex.split(proxy.replace("%%", "%")) == [*HANDOVER, "ssh"]


def test_module_is_read_through_the_words_given() -> None:
    words = plan.command(
        *("rsync", plan.Remote("h", 873, module="store"), [plan.Job("ab" * 32, 1000, (0,), delta=False)]),
        *(Path("/d"), SETTINGS),
        piece_length=PIECE,
        handover=HANDOVER,
    )

    assert as_rsync_splits(words[words.index("-e") + 1]) == [*HANDOVER, "rsync"]
    # rsync refuses it where it does not connect by itself.
    assert not [word for word in words if word.startswith("--contimeout")]


def as_rsync_splits(remote_shell: str) -> list[str]:
    """By its own rule for quotes: a doubled one, which to a shell is two adjacent strings, stands for one."""
    return shlex.split(remote_shell.replace("''", "'\\''"))


def test_source_is_quiet_since_the_files_grew_last() -> None:
    pulse = plan.Pulse(100.0)
    assert pulse.quiet_seconds(103.0, 0) == 3.0
    assert not pulse.began
    assert pulse.quiet_seconds(104.0, 1) == 0.0
    assert pulse.began
    assert pulse.quiet_seconds(106.0, 1) == 2.0


def test_what_this_node_holds_back_is_not_the_silence_of_the_source() -> None:
    pulse = plan.Pulse(100.0)
    pulse.quiet_seconds(101.0, 1000, received=2000, held_seconds=0.5)
    assert pulse.quiet_seconds(109.0, 1000, received=150_000, held_seconds=8.0) == 0.5


def test_stream_without_content_is_silence_however_much_of_it_is_held_back() -> None:
    pulse = plan.Pulse(100.0)
    assert pulse.quiet_seconds(109.0, 0, received=2 * plan.KEPT_BACK_BYTES + 1, held_seconds=8.0) == 9.0


@pytest.mark.parametrize(
    ("path", "version", "settings", "said"),
    [
        (None, None, SETTINGS, "apt install rsync"),
        ("/usr/bin/rsync", None, SETTINGS, "does not say"),
        ("/usr/bin/rsync", (3, 2, 7), SETTINGS, "rsync.accept_older"),
        ("/usr/bin/rsync", (3, 5, 0), RsyncSettings(enabled=False), "rsync.enabled"),
    ],
)
def test_why_it_cannot_be_used_is_one_line_with_the_way_out(
    path: str | None, version: tuple[int, ...] | None, settings: RsyncSettings, said: str
) -> None:
    verdict = plan.judge(path, version, settings)

    assert not verdict.ok
    assert said in verdict.reason
    assert "\n" not in verdict.reason


def test_a_new_rsync_and_a_patched_old_one_can_be_used() -> None:
    assert plan.judge("/usr/bin/rsync", plan.version_in("rsync  version 3.5.0  protocol version 32\n"), SETTINGS).ok
    assert plan.judge("/usr/bin/rsync", (3, 2, 7), RsyncSettings(accept_older=True)).ok
    assert plan.version_in("openrsync: protocol version 29") is None
