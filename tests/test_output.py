"""Where a site may go: a new folder, an empty one, or a site of this book; nothing else is touched."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from repro.publish import book
from repro.runs.provenance import PROJECT


def site(folder, says="the previous site"):
    (folder / "_static").mkdir(parents=True)
    (folder / book.OURS).touch()
    (folder / "index.html").write_text(says)
    return folder


def sphinx(folder):
    folder.mkdir()
    (folder / "objects.inv").write_text("the documentation of something else")
    return folder


def device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this user may make no device")


REFUSED = {
    "a file": (lambda p: p.touch(), "is no folder"),
    "a pipe": (os.mkfifo, "is no folder"),
    "a device": (device, "is no folder"),
    "a link to a file": (lambda p: (p.with_name("file").touch(), p.symlink_to("file")), "is a link"),
    "a link to a site": (lambda p: (site(p.with_name("real")), p.symlink_to("real")), "is a link"),
    "a link to nowhere": (lambda p: p.symlink_to("nowhere"), "is a link"),
    "a link to itself": (lambda p: p.symlink_to(p.name), "is a link"),
    "somebody's thesis": (lambda p: (p.mkdir(), (p / "thesis.tex").touch()), "no site of this book"),
    "another book's site": (sphinx, "no site of this book"),
    "below a file": (lambda p: (p.parent.rmdir(), p.parent.touch()), "File exists"),
    "too long a name": (lambda p: None, "File name too long"),
}


def everything(folder):
    """Every path below, with what tells whether it was touched."""
    return {p: (p.lstat().st_ino, p.lstat().st_mode, p.lstat().st_mtime_ns) for p in folder.rglob("*")}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_folder_of_ours_is_refused_and_left_alone(tmp_path, what):
    make, why = REFUSED[what]
    output = tmp_path / "there" / ("x" * 300 if what == "too long a name" else "output")
    output.parent.mkdir()
    make(output)
    before = everything(tmp_path)
    with pytest.raises(book.BookError, match=rf"^output .*: .*{why}.*; give") as error:
        book.build("smoke", root=tmp_path / "root", output=output, workers=0)
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("where", ["_build", "_build/stage", "_build/stage/site", "", "..", "notebooks/.."])
def test_where_sites_are_made_is_no_place_for_one(tmp_path, where):
    root = tmp_path / "root"
    (root / "notebooks").mkdir(parents=True)
    before = everything(tmp_path)
    with pytest.raises(book.BookError, match=r"where sites are made, or holds it; give another folder, such as .*site"):
        book.build("smoke", root=root, output=root / where, workers=0)
    assert everything(tmp_path) == before


def test_a_mount_point_is_refused():
    with pytest.raises(book.BookError, match="is a mount point, which cannot be replaced; give a folder in it"):
        book.build("smoke", root=PROJECT, output=Path("/proc"), workers=0)


def pages(folder, megabytes=0):
    site(folder, "the new site")
    (folder / "large").write_bytes(bytes(megabytes * 2**20))
    return folder


@pytest.mark.parametrize("before", [None, "empty", "site"])
def test_the_new_site_takes_the_place_of_nothing_or_of_the_old_one(tmp_path, before):
    target = tmp_path / "out" / "site"
    target.parent.mkdir()
    if before:
        site(target) if before == "site" else target.mkdir()
    book._replace(target, pages(tmp_path / "pages"))
    assert (target / "index.html").read_text() == "the new site"
    assert [p.name for p in target.parent.iterdir()] == ["site"]


def test_killed_while_the_sites_are_exchanged(tmp_path):
    """At each step of it. The old one is lost at no moment, nor by the next build."""
    code = """
import os, shutil, signal, sys
from pathlib import Path
from repro.publish import book
out, pages = map(Path, sys.argv[1:])
for owner, name, count in ((Path, "rename", 1), (Path, "rename", 2), (shutil, "copytree", 1)):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        continue
    real, calls = getattr(owner, name), []
    def deadly(*given, **more):
        calls.append(given)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **more)
    setattr(owner, name, deadly)
    book._replace(out / f"{name}{count}" / "site", pages)
"""
    targets = [site(tmp_path / f"{moment}" / "site") for moment in ("rename1", "rename2", "copytree1")]
    subprocess.run([sys.executable, "-c", code, tmp_path, pages(tmp_path / "pages")], check=True)
    assert [target.exists() for target in targets] == [True, False, True]
    for target in targets:
        book._recover(target)
        assert (target / "index.html").read_text() == "the previous site"
        book._replace(target, tmp_path / "pages")
        assert (target / "index.html").read_text() == "the new site"
        assert [p.name for p in target.parent.iterdir()] == ["site"]


REFUSES = 77


def mounted(mount, *command, **given):
    """The command, where this has been mounted for it alone; skips where that is not allowed."""
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare here")
    shell = f'{{ {mount}; }} 2>/dev/null || exit {REFUSES}; shift; exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh"]
    done = subprocess.run([*unshare, *command], capture_output=True, text=True, **given)
    if done.returncode == REFUSES or done.stderr.startswith("unshare: "):
        pytest.skip("nobody may mount anything here")
    return done


def test_another_file_system_that_fills_up(tmp_path):
    """A quarter of the new site fits; the old one stays, and nothing half written."""
    code = """
import os, sys
from pathlib import Path
from repro.publish import book
disk, pages = map(Path, sys.argv[1:])
site = disk / "site"
(site / "_static").mkdir(parents=True)
(site / "index.html").write_text("the previous site")
try:
    book._replace(site, pages)
except book.BookError as error:
    print(error)
print(os.listdir(disk), (site / "index.html").read_text())
"""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-c", code, disk, pages(tmp_path / "pages", megabytes=4)]
    line, left = mounted('mount -t tmpfs -o size=1m none "$1"', disk, *command).stdout.splitlines()
    assert "the new site cannot be written there" in line and "No space left on device" in line and "free some" in line
    assert left == "['site'] the previous site"


@pytest.mark.parametrize("words", [[], ["--output", "elsewhere"]], ids=["as is", "to elsewhere"])
def test_a_checkout_that_cannot_be_written(tmp_path, words):
    done = mounted(
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"',
        *(PROJECT, sys.executable, "-m", "repro.cli", "build", "--scale", "smoke", *words),
        cwd=tmp_path,
        env=os.environ | {"REPRO_CACHE": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1 and done.stdout == "", done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and str(PROJECT / "_build") in line and "cannot" in line
    assert not list(tmp_path.iterdir())
