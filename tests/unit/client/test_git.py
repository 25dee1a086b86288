"""Which commit a job's code is at."""

import os
import subprocess
from pathlib import Path

import pytest

from fleetcast.client.git import commit_of


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *settings, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "train").mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    git(folder, "commit", "-q", "--allow-empty", "-m", "second")
    return folder


def test_commit_of_a_branch_is_found_from_any_folder_of_it(tree: Path) -> None:
    assert commit_of(str(tree / "train")) == git(tree, "rev-parse", "HEAD")


def test_commit_that_is_checked_out_without_a_branch_is_found(tree: Path) -> None:
    first = git(tree, "rev-parse", "HEAD~1")
    git(tree, "checkout", "-q", first)
    assert commit_of(str(tree)) == first


def test_commit_of_packed_references_is_found(tree: Path) -> None:
    git(tree, "pack-refs", "--all")
    assert not (tree / ".git" / "refs" / "heads" / "main").exists()
    assert commit_of(str(tree)) == git(tree, "rev-parse", "HEAD")


def test_commit_of_a_linked_working_tree_is_its_own(tree: Path) -> None:
    git(tree, "worktree", "add", "-q", "-b", "other", "../other", "HEAD~1")
    assert commit_of(str(tree.parent / "other")) == git(tree, "rev-parse", "HEAD~1")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HEAD", "ref: refs/heads/nothing"),
        ("HEAD", "ref: HEAD"),
        ("HEAD", "ref: ../../../etc/passwd"),
        ("HEAD", "ref: /etc/passwd"),
        ("HEAD", "\x00\xff"),
        ("HEAD", ""),
        ("refs/heads/main", "not a commit"),
    ],
)
def test_damaged_repository_is_no_commit(tree: Path, name: str, text: str) -> None:
    (tree / ".git" / name).write_text(text)
    assert commit_of(str(tree)) is None


def test_place_without_a_repository_has_no_commit(tmp_path: Path) -> None:
    assert commit_of(str(tmp_path)) is None
    assert commit_of(str(tmp_path / "gone")) is None


def test_pipe_in_the_place_of_a_file_of_git_does_not_hold_the_job(tree: Path) -> None:
    (tree / ".git" / "HEAD").unlink()
    os.mkfifo(tree / ".git" / "HEAD")
    assert commit_of(str(tree)) is None
