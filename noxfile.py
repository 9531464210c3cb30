#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Tasks: `nox -l` lists them. `.ci/run` runs the same checks without nox."""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"


@nox.session
def tests(session: nox.Session) -> None:
    """Run the Rust and the Python tests: `nox -s tests -- -k merge`."""
    session.run("cargo", "test", "--workspace", "--locked", external=True)
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, lints and types of both languages."""
    session.install("mypy", "ruff", ".[test]")
    session.run("cargo", "fmt", "--all", "--check", external=True)
    clippy = ("cargo", "clippy", "--workspace", "--all-targets", "--locked")
    session.run(*clippy, "--", "-D", "warnings", external=True)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("stubtest", "--mypy-config-file", "pyproject.toml", "subquad._subquad")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages into python/docs/_build."""
    session.install(".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "python/docs", "python/docs/_build")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Compare this commit with main: `nox -s bench -- -b attention`."""
    session.install("asv", "virtualenv")
    with session.chdir("benches"):
        session.run("asv", "continuous", "--interleave-rounds", "main", "HEAD", *session.posargs)


if __name__ == "__main__":
    nox.main()
