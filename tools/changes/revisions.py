"""Revisions of this repository, and what git says of them."""

import subprocess
from pathlib import Path

from assay.core.errors import InputError


def git(*arguments: str) -> str | None:
    """Output of a git command, None where it fails. Raises `InputError`: git is not installed."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise InputError("git is not installed; see `make doctor`") from None
    return done.stdout.decode("utf-8", errors="replace") if done.returncode == 0 else None


def commit_of(base: str) -> str:
    """The commit that a revision names. Raises `InputError`: this is no git repository, or has no such revision."""
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
    if commit is not None:
        return commit.strip()
    if git("rev-parse", "--git-dir") is None:
        raise InputError("this folder is no git repository, so there is nothing to compare with")
    branches = git("for-each-ref", "--format=%(refname:short)", "--count=10", "refs/heads", "refs/remotes") or ""
    raise InputError(
        f"{base!r} is no revision of this repository; branches here: {', '.join(branches.split()) or 'none'}. "
        "Fetch it (`git fetch origin`), or name another: BASE is a branch, tag or commit"
    )


def require_committed(path: Path) -> None:
    """Raise `InputError` if a file has changes that git does not have, among which others could not be reviewed."""
    status = subprocess.run(["git", "status", "--porcelain", "--", str(path)], capture_output=True, text=True)
    if status.returncode:
        raise InputError(f"{path}: git cannot tell whether it is committed ({status.stderr.strip()}); run `git init`")
    if status.stdout:
        raise InputError(
            f"{path}: has uncommitted changes, among which others could not be reviewed: `git commit {path}` or "
            "`git stash` first"
        )
