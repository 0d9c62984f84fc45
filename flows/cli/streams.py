"""Standard output and error that take any text, whatever the terminal's encoding is."""

import codecs
import io
import sys

_HANDLER = "paraknow-escape"


def prepare_streams() -> None:
    r"""Let what the encoding of stdout and stderr lacks be written as an escape.

    ``LC_ALL=C``, ``PYTHONIOENCODING=ascii`` and old Windows terminals lack most of Unicode, and no
    encoding has the surrogates that stand for bytes of a file's name. The escapes are those of
    JSON (``\u00e9``), so what ``--json`` prints stays JSON with the same texts.
    """
    codecs.register_error(_HANDLER, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def encoding_hint(text: str) -> str:
    """Say what to do where file names are read in an encoding that lacks letters of a text."""
    encoding = sys.getfilesystemencoding()
    if text.isascii() or encoding == "utf-8":
        return ""
    return f" (Names of files are read as {encoding} here: set PYTHONUTF8=1.)"


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end
