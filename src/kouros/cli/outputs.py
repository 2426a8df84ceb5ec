"""Whether there is a place for what is written, tried before anything is computed."""

from pathlib import Path

from kouros.cli.usage import UsageError


def check_out(out: Path) -> None:
    """Try whether files can be written into the folder ``--out``, which may not exist yet.

    Raises:
        UsageError: it is a file, or nothing can be written there.
    """
    from kouros.files import probe_folder

    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: this is a file; expected a folder, or a name to make one.")
    try:
        probe_folder(out)
    except OSError as error:
        raise UsageError(f"--out {out}: nothing can be written there ({error.strerror or error}).") from None
