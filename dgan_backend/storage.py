"""Folders anywhere: a local path, s3://bucket/folder, memory://, or whatever else fsspec reaches.

What is written is there whole or not at all: a local file is written under another name and then
moved, an object store shows an object once all of it has arrived. Credentials are read where each
kind of storage looks for them, for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where it is
not Amazon's, AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dgan_backend.errors import DganError

_EXTRAS = {"s3": "pip install 'dgan-backend[s3]'", "s3a": "pip install 'dgan-backend[s3]'"}
_UNFINISHED = ".unfinished-"  # a local file's name begins so until it is whole


def is_url(text: str) -> bool:
    """Whether a text names storage by a URL, not by a path."""
    return "://" in text


class Storage:
    """One folder, made when something is written. Names are relative, with `/`.

    Raises DganError that names the place, in every method, when it cannot be reached.
    """

    def __init__(self, url: str | Path) -> None:
        text = str(url)
        self._fs, root = _file_system(text)
        self._root = root.rstrip("/") or root
        self.local = isinstance(self._fs, LocalFileSystem)
        self.url = self._root if self.local else text.rstrip("/")

    def __truediv__(self, folder: str) -> Storage:
        """A folder below."""
        below = object.__new__(Storage)
        below._fs, below.local = self._fs, self.local
        below._root, below.url = f"{self._root}/{folder}", f"{self.url}/{folder}"
        return below

    def __str__(self) -> str:
        return self.url

    def find(self, name: str) -> bytes | None:
        """What a file holds; None when it is not there."""
        with self._told("read", name):
            try:
                return bytes(self._fs.cat_file(self._at(name)))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read(self, name: str) -> bytes:
        """What a file holds; raises DganError when it is not there."""
        found = self.find(name)
        if found is None:
            raise DganError(f"{self.url}/{name} is missing.")
        return found

    def has(self, name: str) -> bool:
        with self._told("read", name):
            self._fs.invalidate_cache()
            return bool(self._fs.isfile(self._at(name)))

    def names(self) -> list[str]:
        """Names of files in this very folder, sorted; [] when there is no folder."""
        return self._names("file")

    def folders(self) -> list[str]:
        """Names of folders in this very folder, sorted."""
        return self._names("directory")

    def write(self, name: str, data: bytes) -> None:
        self.write_all({name: data})

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write several files, each of them whole; on an object store many at once."""
        with self._told("written", *files):
            if not self.local:
                self._fs.pipe({self._at(name): data for name, data in files.items()})
                return
            for name, data in files.items():
                with _moved_to(Path(self._at(name))) as unfinished:
                    unfinished.write_bytes(data)

    def put(self, path: Path, name: str) -> None:
        """Write a copy of a local file."""
        with self._told("written", name):
            if not self.local:
                self._fs.put_file(str(path), self._at(name))
                return
            with _moved_to(Path(self._at(name))) as unfinished:
                shutil.copyfile(path, unfinished)

    def get(self, name: str, path: Path) -> None:
        """Write a file to a local path."""
        with self._told("read", name):
            self._fs.get_file(self._at(name), str(path))

    def delete(self, *names: str) -> None:
        """What is not there is no error."""
        with self._told("deleted", *names):
            for name in names:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._at(name))

    def delete_all(self) -> None:
        """This folder with all that is in it."""
        with self._told("deleted"):
            self._fs.invalidate_cache()
            with suppress(FileNotFoundError):
                self._fs.rm(self._root, recursive=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _names(self, kind: str) -> list[str]:
        with self._told("read"):
            self._fs.invalidate_cache()  # others write here as well
            try:
                found: list[dict[str, Any]] = self._fs.ls(self._root, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = [str(f["name"]).rstrip("/").rpartition("/")[2] for f in found if f["type"] == kind]
        own = self._root.rpartition("/")[2]  # S3 lists an empty object of the folder itself
        return sorted(n for n in names if not n.startswith(_UNFINISHED) and n not in ("", own))

    @contextmanager
    def _told(self, what: str, *names: str) -> Iterator[None]:
        """Errors of all kinds of storage as one that says where and what."""
        try:
            yield
        except DganError:
            raise
        except Exception as error:  # each kind of storage has exceptions of its own
            place = f"{self.url}/{names[0]}" if len(names) == 1 else self.url
            reason = str(error) or type(error).__name__
            hint = "" if self.local else " Check the address, the credentials and the network."
            raise DganError(f"{place} cannot be {what} ({reason}).{hint}") from error


def _file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path there."""
    scheme = url.partition("://")[0] if is_url(url) else "file"
    try:
        if scheme == "file":
            path = Path(url.removeprefix("file://")).expanduser().absolute()
            return fsspec.filesystem("file"), str(path)
        fs, path_there = fsspec.core.url_to_fs(url)
        return fs, str(path_there)
    except ImportError as error:
        remedy = _EXTRAS.get(scheme, "pip install the package that it names")
        raise DganError(f"{url} needs a package that is missing ({error}): {remedy}.") from error
    except ValueError as error:
        raise DganError(f"{url} is no address of storage ({error}); try s3://...") from error


@contextmanager
def _moved_to(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{_UNFINISHED}{secrets.token_hex(6)}-{path.name}"[:250])
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
